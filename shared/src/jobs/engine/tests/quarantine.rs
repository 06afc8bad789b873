//! Rule 10: a job whose process crashed is a suspect, waits apart, and is leased only by who runs it alone.

use super::*;
use crate::jobs::engine::{outcome::Company, scripts::LeaseFrom};

async fn lease_suspects(fixture: &Fixture, worker: &Holder) -> Vec<Leased> {
    fixture.step(worker, Step { want: 10, from: LeaseFrom::Quarantine, ..Step::default() }).await.leased
}

/// A row of a suspect, not in Redis yet.
async fn suspect_row(fixture: &Fixture, run_at: OffsetDateTime) -> Enqueue {
    let job = fixture.row_at(run_at, 4).await;
    Enqueue { standing: Standing { crashes: 1, ..job.standing }, ..job }
}

#[tokio::test]
async fn a_suspect_is_leased_from_the_quarantine_and_from_nowhere_else() {
    let fixture = Fixture::new().await;
    let suspect = suspect_row(&fixture, fixture.ctx.clock.now()).await;
    fixture.enqueue(&suspect).await;
    let other = fixture.job().await;
    let ids = |leased: Vec<Leased>| leased.iter().map(|leased| leased.id).collect::<Vec<_>>();
    assert_eq!(ids(fixture.lease(&worker(), 10).await), [other.id]);
    let leased = lease_suspects(&fixture, &worker()).await;
    assert_eq!((leased[0].id, leased[0].standing.crashes), (suspect.id, 1));
    assert_eq!(leased.len(), 1);
}

#[tokio::test]
async fn every_way_back_leads_a_suspect_into_the_quarantine() {
    let fixture = Fixture::new().await;
    fixture.enqueue(&suspect_row(&fixture, fixture.ctx.clock.now()).await).await;
    let now = fixture.ctx.clock.now();
    for action in [Action::Release, Action::Requeue { run_at: now }, Action::Requeue { run_at: now + Duration::from_millis(20) }] {
        let holder = worker();
        let leased = lease_suspects(&fixture, &holder).await.pop().expect("it waits there");
        let token = Token { job_id: leased.id, attempt: leased.standing.attempt, nonce: holder.nonce };
        fixture.finish(&holder, Finish { token, action, standing: leased.standing }).await;
        while fixture.copy(leased.id).await.is_some_and(|copy| copy.starts_with('d')) {
            fixture.sweep().await;
        }
        assert_eq!(fixture.lease(&worker(), 10).await.len(), 0);
    }
    lease_suspects(&fixture, &worker()).await.pop().expect("it waits there");
    fixture.expire_leases().await;
    fixture.sweep().await;
    assert_eq!(fixture.lease(&worker(), 10).await.len(), 0);
    assert_eq!(lease_suspects(&fixture, &worker()).await.len(), 1);
}

#[tokio::test]
async fn a_ready_job_that_becomes_a_suspect_is_not_leased_to_run_among_others() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let suspect = Enqueue { standing: Standing { crashes: 1, attempt: 3, ..job.standing }, ..job };
    fixture.enqueue(&suspect).await;
    assert_eq!(fixture.lease(&worker(), 10).await.len(), 0);
    assert_eq!(lease_suspects(&fixture, &worker()).await.len(), 1);
}

#[tokio::test]
async fn an_older_releases_standing_with_returns_is_no_suspects() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let mut connection = fixture.connection.clone();
    redis::cmd("HSET").arg(fixture.keys.att()).arg(job.id.to_string()).arg("r4:2:0:0:2").exec_async(&mut connection).await.unwrap();
    assert_eq!(fixture.lease_one(&worker()).await.1.returns, 2);
}

#[tokio::test]
async fn the_row_keeps_that_a_job_is_a_suspect() {
    let fixture = Fixture::new().await;
    let job = fixture.job().await;
    let (token, standing) = fixture.start_one(&worker()).await;
    let outcome = Outcome::Crashed { how: "signal 6".to_owned(), company: Company::Shared };
    let conclusion = fixture.conclusion(token, standing, outcome);
    store::conclude(&mut fixture.ctx.pg.acquire().await.unwrap(), &[&conclusion]).await.unwrap();
    assert_eq!(fixture.row_of(job.id).await.unwrap().standing.crashes, 1);
    assert_eq!(fixture.attempts(job.id).await, ["crashed"]);
    fixture.empty_redis().await;
    fixture.restore().await;
    crate::jobs::engine::reconcile::rebuild(&fixture.ctx, &fixture.queue).await.unwrap();
    assert_eq!(fixture.lease(&worker(), 10).await.len(), 0);
    assert_eq!(lease_suspects(&fixture, &worker()).await[0].standing.crashes, 1);
}
