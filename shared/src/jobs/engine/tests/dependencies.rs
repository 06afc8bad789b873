//! Jobs that wait for others: released once, ended with a reason, through races, killed processes and an emptied Redis.

use super::{
    ties::{World, account, dead, until},
    *,
};
use crate::{
    Code, Role,
    jobs::{
        JobState,
        aftermath::{self, Cursor},
        bulk, cancel, delete, queues,
    },
};
use futures_util::future::join;
use rstest::rstest;
use serde_json::{Value, json};

#[tokio::test]
async fn a_job_runs_once_all_that_it_waits_for_have_succeeded() {
    let world = World::new().await;
    let (first, second) = (world.submit(json!({})).await, world.submit(json!({})).await);
    let waiting = world.after(&[first, second, first]).await;
    assert_eq!(world.state(waiting).await, JobState::Waiting);
    assert_eq!(world.fixture.copy(waiting).await, None, "Redis does not know it");
    let held = world.start().await;
    world.end(held[&first], done()).await;
    until("the first end is seen to", async || world.count("job_dependencies").await == 1).await;
    assert_eq!(world.state(waiting).await, JobState::Waiting);
    world.end(held[&second], done()).await;
    world.until_state(waiting, JobState::Queued).await;
    world.run(waiting, done()).await;
    assert_eq!(world.state(waiting).await, JobState::Succeeded);
    assert_eq!((world.count_left().await, world.count("job_dependencies").await), (0, 0));
}

#[tokio::test]
async fn a_job_does_not_wait_for_what_has_succeeded() {
    let world = World::new().await;
    let first = world.submit(json!({})).await;
    world.run(first, done()).await;
    let next = world.try_submit(json!({"depends_on": [first]})).await.unwrap();
    assert_eq!(next.state, JobState::Queued);
    world.run(next.id, done()).await;
}

#[tokio::test]
async fn a_chain_runs_link_by_link() {
    let world = World::new().await;
    let mut chain = vec![world.submit(json!({})).await];
    for _ in 0..5 {
        chain.push(world.after(&chain[chain.len() - 1..]).await);
    }
    for id in chain {
        world.until_state(id, JobState::Queued).await;
        until("it can be leased", async || world.fixture.copy(id).await.is_some()).await;
        let held = world.start().await;
        assert_eq!(held.len(), 1, "no other link runs");
        world.end(held[&id], done()).await;
    }
}

#[rstest]
#[case::dead("is dead", dead())]
#[case::cancelled("is cancelled", Outcome::Cancelled)]
#[case::expired("is expired", Outcome::Expired)]
#[tokio::test]
async fn those_who_wait_for_what_does_not_succeed_are_cancelled_and_say_why(#[case] reason: &str, #[case] outcome: Outcome) {
    let world = World::new().await;
    let (first, other) = (world.submit(json!({})).await, world.submit(json!({"delay_ms": 60_000})).await);
    let second = world.after(&[first, other]).await;
    let third = world.after(&[second]).await;
    world.run(first, outcome).await;
    for (id, because_of, reason) in [(second, first, reason), (third, second, "is cancelled")] {
        let error = world.until_state(id, JobState::Cancelled).await.error.unwrap();
        assert_eq!(error.code, "dependency_failed");
        assert_eq!(error.message, format!("the job {because_of}, which it depends on, {reason}"));
    }
    assert_eq!((world.count("job_dependencies").await, world.state(other).await), (0, JobState::Scheduled));
}

#[tokio::test]
async fn those_who_wait_for_what_failed_before_or_is_deleted_are_cancelled() {
    let world = World::new().await;
    let (failed, deleted) = (world.submit(json!({})).await, world.submit(json!({"delay_ms": 60_000})).await);
    world.run(failed, dead()).await;
    let late = world.after(&[failed]).await;
    assert_eq!(world.until_state(late, JobState::Cancelled).await.error.unwrap().code, "dependency_failed");
    let waiting = world.after(&[deleted]).await;
    delete::delete(&world.ctx, &world.user, deleted).await.unwrap();
    let error = world.until_state(waiting, JobState::Cancelled).await.error.unwrap();
    assert!(error.message.ends_with("was deleted"), "{error:?}");
}

#[tokio::test]
async fn the_last_two_ends_at_once_on_two_workers_release_once() {
    let world = World::new().await;
    for _ in 0..20 {
        let (first, second) = (world.submit(json!({})).await, world.submit(json!({})).await);
        let waiting = world.after(&[first, second]).await;
        let held = world.start().await;
        join(world.end_on(&world.ctx, held[&first], done()), world.end_on(&world.other, held[&second], done())).await;
        world.until_state(waiting, JobState::Queued).await;
        until("Redis has it", async || world.fixture.copy(waiting).await.is_some()).await;
        let held = world.start().await;
        assert_eq!(held.keys().collect::<Vec<_>>(), [&waiting], "it is there once");
        world.end(held[&waiting], done()).await;
    }
    until("all is seen to", async || world.count_left().await == 0).await;
}

#[tokio::test]
async fn a_job_that_begins_to_wait_while_the_other_ends_is_released_all_the_same() {
    let world = World::new().await;
    for turn in 0..20 {
        let first = world.submit(json!({})).await;
        let held = world.start().await;
        let outcome = if turn % 3 == 0 { dead() } else { done() };
        let expected = if turn % 3 == 0 { JobState::Cancelled } else { JobState::Queued };
        let (waiting, ()) = join(world.after(&[first]), async {
            // From before the first look to after the last.
            tokio::time::sleep(Duration::from_micros(turn * 200)).await;
            world.end_on(&world.other, held[&first], outcome).await;
        })
        .await;
        world.until_state(waiting, expected).await;
        if expected == JobState::Queued {
            until("Redis has it", async || world.fixture.copy(waiting).await.is_some()).await;
            world.run(waiting, done()).await;
        }
    }
}

#[tokio::test]
async fn what_a_killed_worker_leaves_the_leader_finds() {
    let world = World::new().await;
    let (first, failed) = (world.submit(json!({})).await, world.submit(json!({})).await);
    let (waiting, doomed) = (world.after(&[first]).await, world.after(&[failed]).await);
    let held = world.start().await;
    world.end_and_be_killed(held[&first], done()).await;
    world.end_and_be_killed(held[&failed], dead()).await;
    assert_eq!((world.state(waiting).await, world.state(doomed).await), (JobState::Waiting, JobState::Waiting));
    // Two leaders at once do no harm.
    let (one, two) = join(aftermath::see_to_all(&world.ctx), aftermath::see_to_all(&world.other)).await;
    assert!(one.is_ok() && two.is_ok());
    world.until_state(doomed, JobState::Cancelled).await;
    until("Redis has it", async || world.fixture.copy(waiting).await.is_some()).await;
    assert_eq!(world.count_left().await, 0);
}

#[tokio::test]
async fn a_release_that_redis_has_not_heard_of_is_announced_by_the_leader() {
    let world = World::new().await;
    let first = world.submit(json!({})).await;
    let waiting = world.after(&[first]).await;
    world.run(first, done()).await;
    until("Redis has it", async || world.count_left().await == 0).await;
    // As if the process was killed between its commit and this.
    sqlx::query("INSERT INTO released_jobs (job_id, queue) VALUES ($1, 'default')").bind(waiting.0).execute(&world.ctx.pg).await.unwrap();
    world.fixture.empty_redis().await;
    world.fixture.restore().await;
    aftermath::see_to_all(&world.other).await.unwrap();
    assert!(world.fixture.copy(waiting).await.is_some());
    world.run(waiting, done()).await;
}

#[tokio::test]
async fn an_emptied_redis_changes_nothing_for_those_who_wait() {
    let world = World::new().await;
    let first = world.submit(json!({})).await;
    let waiting = world.after(&[first]).await;
    world.fixture.empty_redis().await;
    world.fixture.restore().await;
    crate::jobs::engine::reconcile::rebuild(&world.ctx, &world.fixture.queue).await.unwrap();
    assert_eq!(world.fixture.copy(waiting).await, None);
    world.run(first, done()).await;
    until("Redis has it", async || world.fixture.copy(waiting).await.is_some()).await;
}

#[tokio::test]
async fn an_end_that_nobody_told_of_is_found_by_looking() {
    let world = World::new().await;
    let first = world.submit(json!({})).await;
    let waiting = world.after(&[first]).await;
    world.end_and_be_killed(world.start().await[&first], done()).await;
    // By code that knows nothing of this.
    world.execute("DELETE FROM ended_dependencies").await;
    aftermath::see_to_all(&world.ctx).await.unwrap();
    assert_eq!(world.state(waiting).await, JobState::Waiting);
    aftermath::look_on(&world.ctx, &mut Cursor::default()).await.unwrap();
    world.until_state(waiting, JobState::Queued).await;
}

#[tokio::test]
async fn a_job_does_not_wait_past_its_time_nor_against_a_wish_to_cancel_it() {
    let world = World::new().await;
    let first = world.submit(json!({"delay_ms": 3_600_000})).await;
    let expires_at = world.ctx.clock.now() + time::Duration::minutes(1);
    let text = expires_at.format(&time::format_description::well_known::Rfc3339).unwrap();
    let late = world.submit(json!({"depends_on": [first], "expires_at": text})).await;
    let unwanted = world.after(&[first]).await;
    sqlx::query("UPDATE jobs SET cancel_requested_at = now() WHERE id = $1").bind(unwanted.0).execute(&world.ctx.pg).await.unwrap();
    world.ctx.clock.advance(time::Duration::minutes(2));
    aftermath::look_on(&world.ctx, &mut Cursor::default()).await.unwrap();
    assert_eq!((world.state(late).await, world.state(unwanted).await), (JobState::Expired, JobState::Cancelled));
}

#[tokio::test]
async fn a_job_that_waits_is_cancelled_deleted_and_purged() {
    let world = World::new().await;
    let first = world.submit(json!({"delay_ms": 60_000})).await;
    let [one, two, three] = [world.after(&[first]).await, world.after(&[first]).await, world.after(&[first]).await];
    let fourth = world.after(&[one, two]).await;
    let cancel::Cancelled::Done(job) = cancel::cancel(&world.ctx, &world.user, one).await.unwrap() else { panic!("nobody runs it") };
    assert_eq!((job.state, job.error), (JobState::Cancelled, None));
    world.until_state(fourth, JobState::Cancelled).await;
    delete::delete(&world.ctx, &world.user, two).await.unwrap();
    let purge = serde_json::from_value(json!({"state": "waiting"})).unwrap();
    let operator = account(&world.ctx, Role::Operator).await;
    let purged = queues::purge(&world.ctx, &operator, &world.fixture.queue, &purge, &Default::default()).await.unwrap();
    assert_eq!((purged.removed, world.count("jobs").await, world.count("job_dependencies").await), (1, 1, 0), "{three}");
}

#[tokio::test]
async fn a_job_that_many_wait_for_releases_them_all() {
    let world = World::new().await;
    let first = world.submit(json!({})).await;
    for _ in 0..3 {
        let items = vec![json!({"depends_on": [first]}); 400];
        let verdicts = world.prepare_bulk(&items).await.write(&world.ctx, None).await;
        assert!(verdicts.iter().all(Result::is_ok));
        bulk::announce(&world.ctx, &verdicts).await;
    }
    assert_eq!(world.count("jobs WHERE state = 'waiting'").await, 1_200);
    world.run(first, done()).await;
    until("all are released", async || world.count("jobs WHERE state = 'waiting'").await == 0).await;
    until("all is seen to", async || world.count_left().await == 0).await;
    assert_eq!(world.start().await.len() + world.start().await.len(), 1_200);
}

#[tokio::test]
async fn jobs_that_wait_are_written_with_others_or_not_at_all() {
    let world = World::new().await;
    let first = world.submit(json!({})).await;
    let prepared = world.prepare_bulk(&[json!({}), json!({"depends_on": [first]}), json!({"depends_on": [JobId::new()]})]).await;
    assert!(prepared.all_or_nothing(0).unwrap_err().fields[0].pointer.starts_with("/jobs/2/depends_on/0"));
    let mut tx = world.ctx.pg.begin().await.unwrap();
    let verdicts = prepared.write(&world.ctx, Some(&mut tx)).await;
    assert_eq!(verdicts.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false]);
    drop(tx);
    until("it is rolled back", async || world.count("jobs").await == 1).await;
    assert_eq!(world.count("job_dependencies").await, 0);
}

#[rstest]
#[case::unknown(json!({"depends_on": ["01a1f640-bc00-7000-8000-000000000001"]}), "/depends_on/0", "not_found")]
#[case::too_many(json!({"depends_on": ["01a1f640-bc00-7000-8000-000000000001", "01a1f640-bc00-7000-8000-000000000002",
    "01a1f640-bc00-7000-8000-000000000003"]}), "/depends_on", "length")]
#[case::kept_by_redis(json!({"queue": "fast", "depends_on": ["01a1f640-bc00-7000-8000-000000000001"]}), "/depends_on", "not_supported")]
#[case::replacing(json!({"unique": {"key": "k", "on_conflict": "replace"}, "depends_on": ["01a1f640-bc00-7000-8000-000000000001"]}),
    "/unique/on_conflict", "not_supported")]
#[tokio::test]
async fn what_cannot_be_waited_for_is_refused(#[case] fields: Value, #[case] pointer: &str, #[case] code: &str) {
    let world = World::with(&[("JOB_DEPENDENCIES_MAX", "2")]).await;
    let operator = account(&world.ctx, Role::Operator).await;
    let patch = serde_json::from_value(json!({"durability": "redis"})).unwrap();
    queues::update(&world.ctx, &operator, &"fast".parse().unwrap(), &patch, &Default::default(), |_| Ok(())).await.unwrap();
    let first = world.submit(json!({})).await;
    // The one in the queue of Redis waits for a job that there is.
    let fields: Value = if code == "not_supported" {
        serde_json::from_str(&fields.to_string().replace("01a1f640-bc00-7000-8000-000000000001", &first.to_string())).unwrap()
    } else {
        fields
    };
    let error = world.try_submit(fields).await.unwrap_err();
    assert_eq!((error.code, error.fields[0].pointer.as_str(), error.fields[0].code.as_str()), (Code::ValidationFailed, pointer, code));
    assert_eq!(world.count("jobs").await, 1);
}

#[tokio::test]
async fn nobody_waits_for_anothers_job_but_operators() {
    let mut world = World::new().await;
    let first = world.submit(json!({})).await;
    world.user = account(&world.ctx, Role::User).await;
    let error = world.try_submit(json!({"depends_on": [first]})).await.unwrap_err();
    assert_eq!(error.fields[0].code, "not_found");
    assert_eq!(world.count("jobs WHERE awaited").await, 0, "it is not even marked");
    world.user = account(&world.ctx, Role::Operator).await;
    let waiting = world.after(&[first]).await;
    world.run(first, done()).await;
    world.until_state(waiting, JobState::Queued).await;
}

#[tokio::test]
async fn a_unique_job_may_wait_and_its_duplicate_waits_no_second_time() {
    let world = World::new().await;
    let first = world.submit(json!({})).await;
    let fields = json!({"depends_on": [first], "unique": {"key": "k"}});
    let waiting = world.submit(fields.clone()).await;
    let duplicate = world.try_submit(fields).await.unwrap();
    assert_eq!((duplicate.id, duplicate.duplicate, duplicate.state), (waiting, true, JobState::Waiting));
    assert_eq!(world.count("job_dependencies").await, 1);
    let replacing = world.submit(json!({"unique": {"key": "k", "on_conflict": "replace"}})).await;
    world.until_state(waiting, JobState::Cancelled).await;
    assert_eq!(world.state(replacing).await, JobState::Queued);
}

#[tokio::test]
async fn jobs_without_ties_leave_nothing_to_be_done() {
    let world = World::new().await;
    for outcome in [done(), dead(), Outcome::Cancelled] {
        let id = world.submit(json!({})).await;
        let held = world.start().await;
        world.end_and_be_killed(held[&id], outcome).await;
    }
    assert_eq!(world.count_left().await, 0);
}
