//! Unique keys: one job per owner, kind and key at a time, whoever submits it, and however many at once.

use super::*;
use crate::{
    Code, Error,
    jobs::{JobState, bulk, delete, read, retry, unique::Accepted},
};
use futures_util::future::join_all;
use std::collections::HashSet;

fn keyed(on_conflict: &str) -> Value {
    json!({"kind": "debug.echo", "unique": {"key": "k", "ttl_s": 60, "on_conflict": on_conflict}})
}

async fn bulk(fixture: &Fixture, bodies: &[Value]) -> Vec<Result<Accepted>> {
    let items = bodies.iter().map(|body| Ok(parse(body.clone()))).collect();
    let prepared = bulk::prepare(&fixture.ctx, &fixture.user, items, &Origin::default()).await.unwrap();
    let verdicts = prepared.write(&fixture.ctx, None).await;
    bulk::announce(&fixture.ctx, &verdicts).await;
    verdicts
}

fn id_of(verdict: &Result<Accepted>) -> (JobId, bool) {
    match verdict.as_ref().unwrap() {
        Accepted::New(job) => (job.id, false),
        Accepted::Existing(id) => (*id, true),
    }
}

async fn let_keys_expire(fixture: &Fixture) {
    sqlx::query("UPDATE job_unique SET expires_at = now()").execute(&fixture.ctx.pg).await.unwrap();
}

async fn state(fixture: &Fixture, id: JobId) -> JobState {
    read::get(&fixture.ctx, &fixture.user, id).await.unwrap().state
}

#[tokio::test]
async fn a_second_job_of_the_key_is_the_first_one() {
    let fixture = Fixture::new().await;
    let first = fixture.submit(json!({"kind": "debug.echo", "payload": 1, "unique": {"key": "k"}})).await.unwrap();
    assert_eq!((first.unique_key.as_deref(), first.duplicate), (Some("k"), false));
    let second = fixture.submit(json!({"kind": "debug.echo", "payload": 2, "unique": {"key": "k"}})).await.unwrap();
    assert_eq!((second.id, second.duplicate, second.payload.get()), (first.id, true, "1"));
    assert_eq!((fixture.count("jobs").await, fixture.lease().await), (1, 1));
}

#[tokio::test]
async fn other_keys_kinds_and_owners_do_not_meet() {
    let fixture = Fixture::new().await;
    let stranger = caller(Role::User);
    let sleep = json!({"kind": "debug.sleep", "payload": {"ms": 1}, "unique": {"key": "k"}});
    let other = json!({"kind": "debug.echo", "unique": {"key": "l"}});
    for (who, body) in [(&fixture.user, keyed("reject")), (&fixture.user, sleep), (&fixture.user, other), (&stranger, keyed("reject"))] {
        assert!(!fixture.submit_as(who, body).await.unwrap().duplicate);
    }
    assert_eq!(fixture.count("jobs").await, 4);
}

#[tokio::test]
async fn a_rejected_submit_is_told_which_job_holds_the_key() {
    let fixture = Fixture::new().await;
    let first = fixture.submit(keyed("reject")).await.unwrap();
    let error = fixture.submit(keyed("reject")).await.unwrap_err();
    assert_eq!((error.code, error.fields[0].detail.clone()), (Code::DuplicateJob, first.id.to_string()));
    assert_eq!(fixture.count("jobs").await, 1);
}

#[tokio::test]
async fn the_window_counts_from_the_submit_whatever_becomes_of_the_job() {
    let fixture = Fixture::new().await;
    let first = fixture.submit(keyed("return_existing")).await.unwrap();
    fixture.end(first.id, "succeeded").await;
    let meanwhile = fixture.submit(keyed("return_existing")).await.unwrap();
    assert_eq!((meanwhile.id, meanwhile.state, meanwhile.duplicate), (first.id, JobState::Succeeded, true));
    let_keys_expire(&fixture).await;
    let after = fixture.submit(keyed("return_existing")).await.unwrap();
    assert_ne!((after.id, after.duplicate), (first.id, true));
    assert_eq!(fixture.submit(keyed("return_existing")).await.unwrap().id, after.id);
}

#[tokio::test]
async fn a_deleted_job_holds_its_key_no_longer_and_a_requeued_one_asks_for_none() {
    let fixture = Fixture::new().await;
    let first = fixture.submit(keyed("reject")).await.unwrap();
    delete::delete(&fixture.ctx, &fixture.user, first.id).await.unwrap();
    let second = fixture.submit(keyed("reject")).await.unwrap();
    fixture.end(second.id, "dead").await;
    let_keys_expire(&fixture).await;
    let third = fixture.submit(keyed("reject")).await.unwrap();
    assert_eq!(retry::retry(&fixture.ctx, &fixture.user, second.id).await.unwrap().id, second.id);
    assert_eq!(fixture.submit(keyed("return_existing")).await.unwrap().id, third.id);
}

#[tokio::test]
async fn a_waiting_job_is_replaced_and_a_running_one_is_not() {
    let fixture = Fixture::new().await;
    let first = fixture.submit(keyed("replace")).await.unwrap();
    let mut later = keyed("replace");
    later["delay_ms"] = json!(60_000);
    let second = fixture.submit(later).await.unwrap();
    assert!(second.id != first.id && !second.duplicate);
    assert_eq!(state(&fixture, first.id).await, JobState::Cancelled);
    let third = fixture.submit(keyed("replace")).await.unwrap();
    assert_eq!(state(&fixture, second.id).await, JobState::Cancelled);
    fixture.start().await;
    let fourth = fixture.submit(keyed("replace")).await.unwrap();
    assert_eq!((fourth.id, fourth.state, fourth.duplicate), (third.id, JobState::Running, true));
    fixture.end(third.id, "succeeded").await;
    assert!(!fixture.submit(keyed("replace")).await.unwrap().duplicate, "what is over is in nobody's way");
}

#[tokio::test]
async fn a_job_that_redis_does_not_know_is_replaced_by_its_row() {
    let fixture = Fixture::new().await;
    let job = prepare(&fixture.ctx, &fixture.user, keyed("replace")).await.unwrap();
    let mut tx = fixture.ctx.pg.begin().await.unwrap();
    let (first, made) = submitting::submit_in(&fixture.ctx, &mut tx, job).await.unwrap();
    tx.commit().await.unwrap();
    assert!(made.is_some(), "and it is not announced");
    assert!(!fixture.submit(keyed("replace")).await.unwrap().duplicate);
    assert_eq!(state(&fixture, first.id).await, JobState::Cancelled);
}

#[tokio::test]
async fn in_a_transaction_the_key_stands_and_falls_with_it() {
    let fixture = Fixture::new().await;
    let job = prepare(&fixture.ctx, &fixture.user, keyed("replace")).await.unwrap();
    let mut tx = fixture.ctx.pg.begin().await.unwrap();
    submitting::submit_in(&fixture.ctx, &mut tx, job).await.unwrap();
    tx.rollback().await.unwrap();
    let first = fixture.submit(keyed("replace")).await.unwrap();
    assert!(!first.duplicate);
    for on_conflict in ["return_existing", "replace"] {
        let job = prepare(&fixture.ctx, &fixture.user, keyed(on_conflict)).await.unwrap();
        let mut tx = fixture.ctx.pg.begin().await.unwrap();
        let (job, made) = submitting::submit_in(&fixture.ctx, &mut tx, job).await.unwrap();
        tx.commit().await.unwrap();
        submitting::announce(&fixture.ctx, &made.iter().collect::<Vec<_>>()).await;
        assert_eq!((job.duplicate, made.is_none()), (on_conflict == "return_existing", on_conflict == "return_existing"));
    }
    assert_eq!((state(&fixture, first.id).await, fixture.count("jobs").await), (JobState::Cancelled, 1));
}

#[tokio::test]
async fn a_bulk_that_is_rolled_back_has_cancelled_nothing() {
    let fixture = Fixture::new().await;
    let first = fixture.submit(keyed("replace")).await.unwrap();
    let mut tx = fixture.ctx.pg.begin().await.unwrap();
    let items = vec![Ok::<_, Error>(parse(keyed("replace")))];
    let prepared = bulk::prepare(&fixture.ctx, &fixture.user, items, &Origin::default()).await.unwrap();
    assert!(!id_of(&prepared.write(&fixture.ctx, Some(&mut *tx)).await[0]).1, "it takes the key over");
    tx.rollback().await.unwrap();
    assert_eq!(state(&fixture, first.id).await, JobState::Queued);
    assert_eq!((fixture.count("jobs WHERE cancel_requested_at IS NOT NULL").await, fixture.lease().await), (0, 1));
}

#[tokio::test]
async fn a_bulk_replaces_many_at_once_when_it_is_committed() {
    let fixture = Fixture::new().await;
    let body = |n: i32| json!({"kind": "debug.echo", "unique": {"key": format!("k{n}"), "on_conflict": "replace"}});
    let bodies = (0..30).map(body).collect::<Vec<_>>();
    let before = bulk(&fixture, &bodies).await.iter().map(|verdict| id_of(verdict).0).collect::<Vec<_>>();
    let items = bodies.iter().map(|body| Ok::<_, Error>(parse(body.clone()))).collect();
    let prepared = bulk::prepare(&fixture.ctx, &fixture.user, items, &Origin::default()).await.unwrap();
    let mut tx = fixture.ctx.pg.begin().await.unwrap();
    let verdicts = prepared.write(&fixture.ctx, Some(&mut *tx)).await;
    assert_eq!(state(&fixture, before[0]).await, JobState::Queued, "not before the commit");
    tx.commit().await.unwrap();
    assert_eq!(fixture.count("jobs WHERE cancel_requested_at IS NOT NULL").await, 30, "should we die here, it will be seen");
    bulk::announce(&fixture.ctx, &verdicts).await;
    for id in before {
        assert_eq!(state(&fixture, id).await, JobState::Cancelled);
    }
    assert_eq!((fixture.count("jobs").await, fixture.lease().await), (30, 30));
}

#[tokio::test]
async fn a_bulk_meets_itself_and_what_was_there_before() {
    let fixture = Fixture::new().await;
    let earlier = fixture.submit(json!({"kind": "debug.echo", "unique": {"key": "old"}})).await.unwrap();
    let plain = json!({"kind": "debug.echo"});
    let old = json!({"kind": "debug.echo", "unique": {"key": "old"}});
    let bad = json!({"kind": "debug.echo", "unique": {"key": ""}});
    let bodies = [keyed("return_existing"), plain.clone(), keyed("return_existing"), old, keyed("reject"), bad, keyed("replace"), plain];
    let verdicts = bulk(&fixture, &bodies).await;
    let (first, _) = id_of(&verdicts[0]);
    assert_eq!(id_of(&verdicts[2]), (first, true));
    assert_eq!(id_of(&verdicts[3]), (earlier.id, true));
    assert_eq!(verdicts[4].as_ref().unwrap_err().code, Code::DuplicateJob);
    assert_eq!(verdicts[5].as_ref().unwrap_err().code, Code::ValidationFailed);
    assert_eq!(id_of(&verdicts[6]), (first, true), "one request does not replace its own");
    assert_eq!((fixture.count("jobs").await, fixture.lease().await), (4, 4));
}

#[tokio::test]
async fn a_bulk_in_a_transaction_meets_its_earlier_chunks() {
    let fixture = Fixture::new().await;
    let mut tx = fixture.ctx.pg.begin().await.unwrap();
    let mut ids = HashSet::new();
    for on_conflict in ["return_existing", "return_existing", "replace"] {
        let items = vec![Ok::<_, Error>(parse(keyed(on_conflict)))];
        let prepared = bulk::prepare(&fixture.ctx, &fixture.user, items, &Origin::default()).await.unwrap();
        ids.insert(id_of(&prepared.write(&fixture.ctx, Some(&mut *tx)).await[0]).0);
    }
    tx.commit().await.unwrap();
    assert_eq!((ids.len(), fixture.count("jobs").await), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_that_submit_a_key_at_once_make_one_job() {
    let fixture = Fixture::new().await;
    let processes = [(); 2].map(|()| fixture.stores.context(&[]));
    for round in 0..10 {
        let body = json!({"kind": "debug.echo", "unique": {"key": format!("k{round}")}});
        let submits = (0..40).map(|n| {
            let (ctx, body) = (&processes[n % 2], body.clone());
            async move { submitting::submit(ctx, prepare(ctx, &fixture.user, body).await?).await }
        });
        let jobs = join_all(submits).await.into_iter().map(Result::unwrap).collect::<Vec<_>>();
        assert_eq!(jobs.iter().map(|job| job.id).collect::<HashSet<_>>().len(), 1);
        assert_eq!(jobs.iter().filter(|job| !job.duplicate).count(), 1);
    }
    assert_eq!(fixture.count("jobs").await, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn expired_keys_and_replaced_jobs_too_go_to_one_of_many_at_once() {
    let fixture = Fixture::new().await;
    let processes = [(); 2].map(|()| fixture.stores.context(&[]));
    fixture.submit(keyed("reject")).await.unwrap();
    let_keys_expire(&fixture).await;
    for on_conflict in ["reject", "replace"] {
        let submits = (0..20).map(|n| {
            let ctx = &processes[n % 2];
            async move { submitting::submit(ctx, prepare(ctx, &fixture.user, keyed(on_conflict)).await?).await }
        });
        let answers = join_all(submits).await;
        if on_conflict == "reject" {
            assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
        }
    }
    assert_eq!(fixture.count("jobs").await, 2, "the one whose key expired, and the last of all");
    assert_eq!(fixture.count("job_unique").await, 1);
}

#[tokio::test]
async fn keys_whose_time_is_over_are_pruned() {
    let fixture = Fixture::new().await;
    for n in 0..5 {
        fixture.submit(json!({"kind": "debug.echo", "unique": {"key": n.to_string()}})).await.unwrap();
    }
    assert_eq!(crate::jobs::unique::prune(&fixture.ctx, 10).await.unwrap(), 0);
    let_keys_expire(&fixture).await;
    assert_eq!(crate::jobs::unique::prune(&fixture.ctx, 3).await.unwrap(), 3);
    assert_eq!(fixture.count("job_unique").await, 2);
}

#[tokio::test]
async fn a_key_in_doubt_refuses_nobody_elses_job() {
    let fixture = Fixture::new().await;
    let mut tx = fixture.ctx.pg.begin().await.unwrap();
    let held = prepare(&fixture.ctx, &fixture.user, keyed("reject")).await.unwrap();
    submitting::submit_in(&fixture.ctx, &mut tx, held).await.unwrap();
    let waiting = fixture.submit(keyed("return_existing"));
    let others = async {
        fixture.echo(json!({})).await;
        tx.commit().await.unwrap();
    };
    let (waited, ()) = futures_util::future::join(waiting, others).await;
    assert!(waited.unwrap().duplicate);
}

/// Both are written by one statement, which the held key makes fail.
#[tokio::test]
async fn a_key_in_doubt_for_long_fails_only_who_asks_for_it() {
    let fixture = Fixture::with(&[("DB_LOCK_TIMEOUT_MS", "100")]).await;
    let mut tx = fixture.ctx.pg.begin().await.unwrap();
    let held = prepare(&fixture.ctx, &fixture.user, keyed("reject")).await.unwrap();
    submitting::submit_in(&fixture.ctx, &mut tx, held).await.unwrap();
    let blocked = prepare(&fixture.ctx, &fixture.user, keyed("reject")).await.unwrap();
    let other = prepare(&fixture.ctx, &caller(Role::User), keyed("reject")).await.unwrap();
    let submits = (submitting::submit(&fixture.ctx, blocked), submitting::submit(&fixture.ctx, other));
    let (blocked, other) = futures_util::future::join(submits.0, submits.1).await;
    assert_eq!(blocked.unwrap_err().code, Code::DeadlineExceeded);
    assert!(!other.unwrap().duplicate);
    assert_eq!(fixture.lease().await, 1, "and it is announced");
}
