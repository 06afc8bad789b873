//! Jobs that Redis alone holds: what becomes of them when workers, leases and Redis itself go wrong.

use super::*;
use crate::jobs::engine::{
    CancelAnswer, cancel,
    copy::Volatile,
    outcome::Company,
    reconcile,
    salvage::{self, Fate, Running, Wreck},
    settle::{self, Settled, Verdict},
    volatile::{self, Record},
};
use std::sync::Arc;

impl Fixture {
    /// Brings a job into Redis that has no row.
    async fn volatile(&self) -> Enqueue {
        let job = self.volatile_at(self.ctx.clock.now());
        self.enqueue(&job).await;
        job
    }

    fn volatile_at(&self, run_at: OffsetDateTime) -> Enqueue {
        let payload = RawValue::from_string(r#"{"n":1}"#.to_owned()).unwrap();
        Enqueue {
            id: JobId::new(),
            owner_id: UserId::new(),
            kind: JobKind::new("debug.echo").unwrap(),
            standing: Standing { priority: 4, attempt: 0, failures: 0, snoozes: 0, returns: 0, crashes: 0 },
            run_at,
            expires_at: None,
            timeout_ms: None,
            retry: RETRY,
            payload: inline(&payload),
            request_id: None,
            traceparent: None,
            verify: false,
            volatile: Some(Volatile { created_at_ms: 1_700_000_000_000, tags: vec!["t".to_owned()] }),
            concurrency_key: None,
        }
    }

    async fn record(&self, id: JobId) -> Option<Arc<Record>> {
        volatile::records(&mut self.connection.clone(), &self.keys, &[id]).await.unwrap().remove(&id).map(Arc::new)
    }

    /// Writes an outcome of a job whose record a worker has had since it leased it.
    async fn conclude(&self, (token, standing): (Token, Standing), record: &Option<Arc<Record>>, outcome: Outcome) -> Settled {
        let mut conclusion = self.conclusion(token, standing, outcome);
        conclusion.delivery.record.clone_from(record);
        settle::write(&self.ctx, &[conclusion]).await.unwrap().remove(0)
    }

    /// Leases, marks and tells Redis what was written.
    async fn run(&self, outcome: Outcome) -> Settled {
        let holder = worker();
        let (token, standing) = self.start_one(&holder).await;
        self.step(&holder, Step { mark: vec![token], ..Step::default() }).await;
        let settled = self.conclude((token, standing), &self.record(token.job_id).await, outcome).await;
        self.finish(&holder, settled.finish.clone()).await;
        settled
    }

    async fn repair_all(&self) {
        let mut cursor = 0;
        loop {
            cursor = reconcile::repair_copies(&self.ctx, &self.queue, cursor).await.unwrap();
            if cursor == 0 {
                return;
            }
        }
    }

    async fn make_due(&self, id: JobId) {
        let mut connection = self.connection.clone();
        redis::cmd("ZADD").arg(self.keys.delayed()).arg(1).arg(id.to_string()).exec_async(&mut connection).await.unwrap();
        self.sweep().await;
    }
}

#[tokio::test]
async fn a_success_is_the_first_row() {
    let fixture = Fixture::new().await;
    let job = fixture.volatile().await;
    assert_eq!(fixture.run(done()).await.verdict, Verdict::Written);
    let query = "SELECT state, queue, payload::text, result::text, tags, attempt, failures FROM jobs_ended WHERE id = $1";
    let row: (String, String, String, String, Vec<String>, i32, i32) =
        sqlx::query_as(query).bind(job.id.0).fetch_one(&fixture.ctx.pg).await.unwrap();
    let expected = ("succeeded", "default", r#"{"n":1}"#, "1", vec!["t".to_owned()], 1, 0);
    assert_eq!((&*row.0, &*row.1, &*row.2, &*row.3, row.4, row.5, row.6), expected);
    assert_eq!(fixture.copy(job.id).await, None);
}

#[tokio::test]
async fn retries_stay_in_redis_with_each_attempt_noted_until_the_job_is_dead() {
    let fixture = Fixture::new().await;
    let job = fixture.volatile().await;
    for n in 1..=2 {
        fixture.run(Outcome::retry("boom", "it broke")).await;
        assert_eq!(fixture.copy(job.id).await, Some(format!("d4:{n}:{n}:0:0:0")));
        assert!(fixture.row_of(job.id).await.is_none());
        fixture.make_due(job.id).await;
    }
    fixture.run(Outcome::retry("boom", "it broke")).await;
    let row = fixture.row_of(job.id).await.unwrap();
    assert_eq!((row.state.as_str(), row.standing.attempt, row.standing.failures), ("dead", 3, 3));
    assert_eq!(fixture.attempts(job.id).await, ["failed", "failed", "failed"]);
    assert_eq!(fixture.copy(job.id).await, None);
}

#[tokio::test]
async fn an_outcome_whose_answer_got_lost_is_known_again() {
    let fixture = Fixture::new().await;
    let job = fixture.volatile().await;
    let delivery = fixture.start_one(&worker()).await;
    let record = fixture.record(job.id).await;
    for verdict in [Verdict::Written, Verdict::WrittenBefore] {
        let settled = fixture.conclude(delivery, &record, done()).await;
        assert_eq!((settled.verdict, settled.finish.action), (verdict, Action::End { state: "succeeded" }));
    }
}

#[tokio::test]
async fn a_stale_worker_is_refused_at_the_mark_and_by_the_attempt_that_was_noted() {
    let fixture = Fixture::new().await;
    let job = fixture.volatile().await;
    let stopped = worker();
    let stale = fixture.start_one(&stopped).await;
    let record = fixture.record(job.id).await;
    fixture.expire_leases().await;
    fixture.sweep().await;
    assert_eq!(fixture.attempts(job.id).await, ["lost"]);
    let stepped = fixture.step(&stopped, Step { mark: vec![stale.0], ..Step::default() }).await;
    assert_eq!(stepped.refused, [job.id]);
    // As if it had been marked before it stood still.
    let refused = fixture.conclude(stale, &record, done()).await;
    assert_eq!(refused.verdict, Verdict::Refused);
    fixture.finish(&stopped, refused.finish).await;
    assert_eq!(fixture.copy(job.id).await.as_deref(), Some("d4:1:1:0:0:0"), "its word does not count in Redis either");
    fixture.make_due(job.id).await;
    assert_eq!(fixture.run(done()).await.verdict, Verdict::Written);
    assert_eq!(fixture.conclude(stale, &record, done()).await.verdict, Verdict::Refused);
    assert_eq!(fixture.row_of(job.id).await.unwrap().standing.attempt, 2);
}

#[tokio::test]
async fn a_redis_that_came_back_older_runs_the_job_under_a_new_number() {
    let fixture = Fixture::new().await;
    let job = fixture.volatile().await;
    fixture.run(Outcome::retry("boom", "it broke")).await;
    fixture.empty_redis().await;
    fixture.restore().await;
    fixture.enqueue(&job).await;
    assert_eq!(fixture.run(done()).await.verdict, Verdict::Refused, "attempt 1 is noted already");
    assert_eq!(fixture.run(done()).await.verdict, Verdict::Written);
    assert_eq!(fixture.row_of(job.id).await.unwrap().standing.attempt, 2);
}

#[tokio::test]
async fn an_expired_lease_that_never_started_goes_back() {
    let fixture = Fixture::new().await;
    let job = fixture.volatile().await;
    fixture.lease_one(&worker()).await;
    fixture.expire_leases().await;
    fixture.sweep().await;
    assert_eq!(fixture.copy(job.id).await.as_deref(), Some("r4:1:0:0:1:0"));
    assert!(fixture.attempts(job.id).await.is_empty());
}

#[tokio::test]
async fn a_loss_of_a_job_that_was_to_be_cancelled_cancels_it() {
    let fixture = Fixture::new().await;
    let job = fixture.volatile().await;
    fixture.start_one(&worker()).await;
    assert_eq!(cancel(&fixture.ctx, &fixture.queue, job.id).await.unwrap(), CancelAnswer::Signalled);
    fixture.expire_leases().await;
    fixture.sweep().await;
    assert_eq!(fixture.row_of(job.id).await.unwrap().state, "cancelled");
}

#[tokio::test]
async fn what_a_crashed_process_leaves_is_concluded_or_handed_back() {
    let fixture = Fixture::new().await;
    let (ran, waited) = (fixture.volatile().await, fixture.volatile().await);
    let holder = worker();
    let (token, _) = fixture.start_one(&holder).await;
    fixture.lease_one(&holder).await;
    let fate = Fate::Crashed { how: "signal 6".to_owned(), company: Company::Shared };
    let started_at = fixture.ctx.clock.now();
    let running = Running { queue: fixture.queue.clone(), job_id: token.job_id, attempt: token.attempt, started_at, limit: None };
    let wreck = Wreck { nonce: holder.nonce, salvor: Nonce::new(), worker_id: "w".to_owned(), running: vec![(running, fate)] };
    salvage::salvage(&fixture.ctx, &wreck, std::slice::from_ref(&fixture.queue)).await.unwrap();
    assert_eq!(fixture.copy(ran.id).await.as_deref(), Some("r4:1:0:0:0:1"));
    assert_eq!(fixture.copy(waited.id).await.as_deref(), Some("r4:0:0:0:0:0"));
    assert_eq!(fixture.attempts(ran.id).await, ["crashed"]);
}

#[tokio::test]
async fn the_reconciler_leaves_them_alone_until_they_have_ended() {
    let fixture = Fixture::new().await;
    let (job, later) = (fixture.volatile().await, fixture.volatile_at(fixture.ctx.clock.now() + Duration::from_secs(60)));
    fixture.enqueue(&later).await;
    fixture.repair_all().await;
    assert!(fixture.copy(job.id).await.is_some() && fixture.copy(later.id).await.is_some());
    fixture.run(done()).await;
    // A Redis that came back with an older state.
    fixture.enqueue(&job).await;
    fixture.repair_all().await;
    assert!(fixture.copy(job.id).await.is_none() && fixture.copy(later.id).await.is_some());
}

#[tokio::test]
async fn a_rebuild_places_them_again_and_takes_no_lease_away() {
    let fixture = Fixture::new().await;
    let (running, ready) = (fixture.volatile().await, fixture.volatile().await);
    let later = fixture.volatile_at(fixture.ctx.clock.now() + Duration::from_secs(60));
    fixture.enqueue(&later).await;
    let holder = worker();
    let (token, _) = fixture.start_one(&holder).await;
    assert_eq!(token.job_id, running.id);
    reconcile::rebuild(&fixture.ctx, &fixture.queue).await.unwrap();
    let stepped = fixture.step(&holder, Step { mark: vec![token], ..Step::default() }).await;
    assert!(stepped.refused.is_empty(), "its lease is whole");
    assert_eq!(fixture.lease_one(&worker()).await.0.job_id, ready.id);
    assert!(fixture.lease(&worker(), 10).await.is_empty());
    fixture.make_due(later.id).await;
    assert_eq!(fixture.lease_one(&worker()).await.0.job_id, later.id);
}

#[tokio::test]
async fn an_emptied_redis_loses_them_and_the_queue_goes_on() {
    let fixture = Fixture::new().await;
    let (running, waiting, row) = (fixture.volatile().await, fixture.volatile().await, fixture.row().await);
    let holder = worker();
    let (token, _) = fixture.start_one(&holder).await;
    fixture.empty_redis().await;
    fixture.restore().await;
    reconcile::rebuild(&fixture.ctx, &fixture.queue).await.unwrap();
    let stepped = fixture.step(&holder, Step { mark: vec![token], ..Step::default() }).await;
    assert_eq!(stepped.refused, [running.id]);
    assert_eq!(fixture.lease_one(&worker()).await.0.job_id, row.id, "what has a row is there again");
    assert!(fixture.copy(waiting.id).await.is_none());
    let next = fixture.volatile().await;
    assert_eq!(fixture.lease_one(&worker()).await.0.job_id, next.id);
}
