//! Every state that a row can be in, against everything that Redis may hold of it: what the reconciler makes of it, what is
//! left once leases have expired, and what a rebuild makes of it.
//!
//! A copy is written as its place and its attempt: `r1` ready, `d1` delayed, `l1` leased, `-` nowhere. The row's attempt is 2,
//! so that 1 is older, 2 as old, and 3 newer: delivered since, and not concluded. `l3?` has lost its token, `l3!` its expiry,
//! and `l3x` is a lease that has lost its copy.

use super::{machine, *};
use crate::jobs::engine::{
    reconcile::{rebuild, repair_copies, repair_rows},
    scripts::Purpose,
};
use uuid::Uuid;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowIs {
    /// `scheduled`, `queued`, `running` and `retrying` are all `pending`: due, or later.
    Due,
    Later,
    Waiting,
    Succeeded,
    Dead,
    Cancelled,
    Expired,
    Absent,
}

const OVER: &[RowIs] = &[RowIs::Waiting, RowIs::Succeeded, RowIs::Dead, RowIs::Cancelled, RowIs::Expired, RowIs::Absent];

/// What Redis holds; after the reconciler's passes; after leases have expired as well.
type Expected = (&'static str, &'static str, &'static str);

const DUE: &[Expected] = &[
    ("-", "r2", "r2"),
    ("r1", "r2", "r2"),
    ("d1", "r2", "r2"),
    ("l1", "r2", "r2"),
    ("r2", "r2", "r2"),
    ("d2", "d2", "d2"),
    // The row has concluded this delivery; only Redis has not heard.
    ("l2", "l2", "r2"),
    ("r3", "r3", "r3"),
    ("d3", "d3", "d3"),
    ("l3", "l3", "r3"),
    ("l3?", "r2", "r2"),
    ("l3!", "l3", "r3"),
];

const LATER: &[Expected] = &[
    ("-", "d2", "d2"),
    ("r1", "d2", "d2"),
    ("d1", "d2", "d2"),
    ("l1", "d2", "d2"),
    ("r2", "r2", "r2"),
    ("d2", "d2", "d2"),
    ("l2", "l2", "d2"),
    ("r3", "r3", "r3"),
    ("d3", "d3", "d3"),
    ("l3", "l3", "r3"),
    ("l3?", "d2", "d2"),
    ("l3!", "l3", "r3"),
];

/// Leased copies are left to their lease, whose holder may be about to say how it ended.
const OVER_OR_GONE: &[Expected] = &[
    ("-", "-", "-"),
    ("r1", "-", "-"),
    ("d1", "-", "-"),
    ("l1", "l1", "-"),
    ("r2", "-", "-"),
    ("d2", "-", "-"),
    ("l2", "l2", "-"),
    ("r3", "-", "-"),
    ("d3", "-", "-"),
    ("l3", "l3", "-"),
    ("l3?", "-", "-"),
    ("l3!", "l3", "-"),
];

/// Only a rebuild looks for it.
const LEASE_ALONE: &[Expected] = &[("l3x", "-", "-")];

/// A rebuild believes nothing but whole leases above the row.
const DUE_REBUILT: &[Expected] = &[
    ("-", "r2", "r2"),
    ("r1", "r2", "r2"),
    ("d1", "r2", "r2"),
    ("l1", "r2", "r2"),
    ("r2", "r2", "r2"),
    ("d2", "r2", "r2"),
    ("l2", "r2", "r2"),
    ("r3", "r3", "r3"),
    ("d3", "r3", "r3"),
    ("l3", "l3", "r3"),
    ("l3?", "r3", "r3"),
    ("l3!", "r3", "r3"),
    ("l3x", "r2", "r2"),
];

const LATER_REBUILT: &[Expected] = &[
    ("-", "d2", "d2"),
    ("r1", "d2", "d2"),
    ("d1", "d2", "d2"),
    ("l1", "d2", "d2"),
    ("r2", "d2", "d2"),
    ("d2", "d2", "d2"),
    ("l2", "d2", "d2"),
    ("r3", "d3", "d3"),
    ("d3", "d3", "d3"),
    ("l3", "l3", "r3"),
    ("l3?", "d3", "d3"),
    ("l3!", "d3", "d3"),
    ("l3x", "d2", "d2"),
];

#[tokio::test]
async fn the_reconciler_brings_every_copy_to_what_its_row_says() {
    check(RowIs::Due, DUE, IsRebuilt::No).await;
    check(RowIs::Later, LATER, IsRebuilt::No).await;
    for row in OVER {
        check(*row, OVER_OR_GONE, IsRebuilt::No).await;
    }
}

#[tokio::test]
async fn a_rebuild_brings_every_copy_to_what_its_row_says() {
    check(RowIs::Due, DUE_REBUILT, IsRebuilt::Yes).await;
    check(RowIs::Later, LATER_REBUILT, IsRebuilt::Yes).await;
    for row in OVER {
        check(*row, OVER_OR_GONE, IsRebuilt::Yes).await;
        check(*row, LEASE_ALONE, IsRebuilt::Yes).await;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IsRebuilt {
    Yes,
    No,
}

/// All copies of one row's state, side by side in one queue.
async fn check(row: RowIs, expected: &[Expected], is_rebuilt: IsRebuilt) {
    let fixture = Fixture::new().await;
    let mut jobs = Vec::new();
    for (copy, ..) in expected {
        let job = put_row(&fixture, row).await;
        put_copy(&fixture, &job, copy).await;
        jobs.push(job.id);
    }
    if is_rebuilt == IsRebuilt::Yes {
        rebuild(&fixture.ctx, &fixture.queue).await.unwrap();
    }
    // Twice: what the copies' pass removes the rows' pass puts in again.
    for _ in 0..2 {
        repair_rows(&fixture.ctx, Uuid::nil(), Uuid::max()).await.unwrap();
        repair_copies(&fixture.ctx, &fixture.queue, 0).await.unwrap();
    }
    let mut repaired = Vec::new();
    for id in &jobs {
        repaired.push(short(&fixture, *id).await);
    }
    assert_eq!(machine::broken(&fixture.keys, &fixture.connection).await, Vec::<String>::new());
    fixture.expire_leases().await;
    fixture.sweep().await;
    for ((id, repaired), expected) in jobs.iter().zip(repaired).zip(expected) {
        let found = (expected.0, repaired.as_str(), &*short(&fixture, *id).await);
        assert_eq!(found, *expected, "row {row:?}, rebuilt: {is_rebuilt:?}");
    }
    assert_eq!(machine::broken(&fixture.keys, &fixture.connection).await, Vec::<String>::new());
}

/// A row at attempt 2 (3 when it is over), or a job without one.
async fn put_row(fixture: &Fixture, row: RowIs) -> Enqueue {
    let later = if row == RowIs::Later { Duration::from_secs(3_600) } else { Duration::ZERO };
    let job = fixture.row_at(fixture.ctx.clock.now() + later, 4).await;
    sqlx::query("UPDATE jobs SET attempt = 2, failures = 1 WHERE id = $1").bind(job.id.0).execute(&fixture.ctx.pg).await.unwrap();
    let outcome = match row {
        RowIs::Due | RowIs::Later => return job,
        RowIs::Waiting => {
            let waiting = sqlx::query("UPDATE jobs SET state = 'waiting', wait_reason = 'callback' WHERE id = $1").bind(job.id.0);
            waiting.execute(&fixture.ctx.pg).await.unwrap();
            return job;
        }
        RowIs::Absent => {
            sqlx::query("DELETE FROM jobs WHERE id = $1").bind(job.id.0).execute(&fixture.ctx.pg).await.unwrap();
            return job;
        }
        RowIs::Succeeded => done(),
        RowIs::Dead => Outcome::Undeliverable,
        RowIs::Cancelled => Outcome::Cancelled,
        RowIs::Expired => Outcome::Expired,
    };
    let token = Token { job_id: job.id, attempt: 3, nonce: Nonce::new() };
    crate::jobs::engine::settle::write(&fixture.ctx, &[fixture.conclusion(token, job.standing, outcome)]).await.unwrap();
    job
}

async fn put_copy(fixture: &Fixture, job: &Enqueue, copy: &str) {
    let Some(attempt) = copy.get(1..2) else { return };
    let attempt: i32 = attempt.parse().unwrap();
    let now = fixture.ctx.clock.now();
    let run_at = if copy.starts_with('d') { now + Duration::from_secs(3_600) } else { now };
    // A lease is the next attempt.
    let before = if copy.starts_with('l') { attempt - 1 } else { attempt };
    fixture.enqueue(&Enqueue { standing: Standing { attempt: before, ..job.standing }, run_at, ..job.clone() }).await;
    let mut connection = fixture.connection.clone();
    if copy.starts_with('l') {
        scripts::take(&mut connection, &fixture.keys, &worker(), job.id, Purpose::Delete).await.unwrap();
    }
    let id = job.id.to_string();
    match copy.get(2..) {
        Some("?") => redis::cmd("HDEL").arg(fixture.keys.tok()).arg(id).exec_async(&mut connection).await.unwrap(),
        Some("x") => {
            redis::cmd("HDEL").arg(fixture.keys.att()).arg(&id).exec_async(&mut connection).await.unwrap();
            redis::cmd("HDEL").arg(fixture.keys.env()).arg(id).exec_async(&mut connection).await.unwrap();
        }
        Some("!") => redis::cmd("ZREM").arg(fixture.keys.leased()).arg(id).exec_async(&mut connection).await.unwrap(),
        Some(_) | None => {}
    }
}

async fn short(fixture: &Fixture, id: JobId) -> String {
    let copy = fixture.copy(id).await;
    copy.map_or("-".to_owned(), |copy| format!("{}{}", &copy[..1], copy.split(':').nth(1).unwrap()))
}
