//! Batches: true counts, one completion, through races, killed processes and what is done to members by hand.

use super::{
    ties::{World, account, dead, until},
    *,
};
use crate::{
    Code, Result, Role,
    ids::BatchId,
    jobs::{
        JobState, aftermath,
        batches::{
            Batch, BatchCounts, BatchState, NewBatch,
            operations::{self, Made},
            upkeep,
        },
        delete, list,
        new_job::Origin,
        retry,
    },
    page::PageQuery,
};
use futures_util::future::join;
use rstest::rstest;
use serde_json::{Value, json};

impl World {
    async fn try_batch(&self, body: Value) -> Result<Made> {
        let new: NewBatch = serde_json::from_str(&body.to_string()).unwrap();
        let mut tx = self.ctx.pg.begin().await.unwrap();
        let made = operations::create(&self.ctx, &mut tx, &self.user, new, &Origin::default()).await?;
        tx.commit().await.unwrap();
        operations::announce(&self.ctx, &made).await;
        Ok(made)
    }

    /// A closed batch of `n` jobs, with one more on completion.
    async fn batch_of(&self, n: usize) -> (BatchId, Vec<JobId>) {
        let jobs = vec![json!({"kind": "debug.echo"}); n];
        let made = self.try_batch(json!({"jobs": jobs, "on_complete": {"kind": "debug.echo", "tags": ["last"]}})).await.unwrap();
        (made.answer.batch.id, made.answer.job_ids)
    }

    async fn batch(&self, id: BatchId) -> Batch {
        operations::get(&self.ctx, &self.user, id).await.unwrap()
    }

    async fn counts(&self, id: BatchId) -> BatchCounts {
        self.batch(id).await.counts
    }

    async fn until_completed(&self, id: BatchId) -> Batch {
        until("the batch is complete", async || self.batch(id).await.state == BatchState::Completed).await;
        self.batch(id).await
    }

    /// The jobs that came of a batch.
    async fn completions(&self, id: BatchId) -> Vec<crate::jobs::Job> {
        let query = crate::jobs::ListJobs { tag: Some(format!("batch:{id}")), ..Default::default() };
        list::list(&self.ctx, &self.user, &query).await.unwrap().items
    }
}

#[tokio::test]
async fn a_batch_tells_where_its_jobs_are_and_ends_with_one_more() {
    let world = World::new().await;
    let (id, ids) = world.batch_of(4).await;
    assert_eq!(world.counts(id).await, BatchCounts { pending: 4, ..Default::default() });
    let held = world.start().await;
    assert_eq!(world.counts(id).await, BatchCounts { running: 4, ..Default::default() });
    for (job_id, outcome) in ids.iter().zip([done(), dead(), Outcome::Cancelled]) {
        world.end(held[job_id], outcome).await;
    }
    let batch = world.batch(id).await;
    assert_eq!(batch.counts, BatchCounts { running: 1, succeeded: 1, dead: 1, cancelled: 1, ..Default::default() });
    assert_eq!((batch.state, batch.progress, batch.completed_at), (BatchState::Running, 75.0, None));
    world.end(held[&ids[3]], Outcome::Expired).await;
    let batch = world.until_completed(id).await;
    assert_eq!((batch.counts.expired, batch.progress, batch.total, batch.error), (1, 100.0, 4, None));
    let [completion] = &world.completions(id).await[..] else { panic!("one job comes of it") };
    assert_eq!((Some(completion.id), completion.owner_id), (batch.completion_job_id, world.user.user_id));
    assert_eq!(completion.tags, ["last".to_owned(), format!("batch:{id}")]);
    world.run(completion.id, done()).await;
    assert_eq!((world.batch(id).await.total, world.count_left().await), (4, 0), "it is no part of its batch");
}

#[tokio::test]
async fn the_last_two_at_once_on_two_workers_complete_once() {
    let world = World::new().await;
    for _ in 0..20 {
        let (id, ids) = world.batch_of(2).await;
        let held = world.start().await;
        join(world.end_on(&world.ctx, held[&ids[0]], done()), world.end_on(&world.other, held[&ids[1]], dead())).await;
        world.until_completed(id).await;
        assert_eq!(world.completions(id).await.len(), 1);
        world.run_all().await;
    }
    until("all is counted", async || world.count_left().await == 0).await;
}

#[tokio::test]
async fn what_a_killed_worker_leaves_is_counted_once_by_whoever_comes() {
    let world = World::new().await;
    let (id, ids) = world.batch_of(3).await;
    let held = world.start().await;
    for job_id in ids {
        world.end_and_be_killed(held[&job_id], done()).await;
    }
    let batch = world.batch(id).await;
    assert_eq!((batch.counts.succeeded, batch.state), (3, BatchState::Running), "what is not added up yet is read all the same");
    let (one, two) = join(aftermath::see_to_all(&world.ctx), aftermath::see_to_all(&world.other)).await;
    assert!(one.is_ok() && two.is_ok());
    assert_eq!((world.batch(id).await.state, world.completions(id).await.len()), (BatchState::Completed, 1));
    aftermath::see_to_all(&world.other).await.unwrap();
    assert_eq!(world.completions(id).await.len(), 1);
}

#[tokio::test]
async fn an_open_batch_is_joined_until_it_is_closed() {
    let world = World::new().await;
    let made = world.try_batch(json!({"name": "letters"})).await.unwrap();
    let id = made.answer.batch.id;
    assert_eq!((made.answer.batch.state, made.answer.job_ids.len(), made.answer.batch.progress), (BatchState::Open, 0, 0.0));
    let first = world.submit(json!({ "batch_id": id })).await;
    world.run(first, done()).await;
    until("it is counted", async || world.count_left().await == 0).await;
    assert_eq!(world.batch(id).await.state, BatchState::Open, "more may come");
    let second = world.submit(json!({ "batch_id": id, "depends_on": [first] })).await;
    let third = world.submit(json!({ "batch_id": id, "depends_on": [second] })).await;
    assert_eq!(world.counts(id).await, BatchCounts { pending: 1, waiting: 1, succeeded: 1, ..Default::default() });
    operations::close(&world.ctx, &world.user, id).await.unwrap();
    assert_eq!(world.try_submit(json!({ "batch_id": id })).await.unwrap_err().code, Code::BatchClosed);
    world.run(second, dead()).await;
    world.until_state(third, JobState::Cancelled).await;
    let batch = world.until_completed(id).await;
    assert_eq!(batch.counts, BatchCounts { succeeded: 1, dead: 1, cancelled: 1, ..Default::default() });
    assert_eq!((batch.completion_job_id, batch.total), (None, 3));
    let again = operations::close(&world.ctx, &world.user, id).await.unwrap();
    assert_eq!(again.completed_at, batch.completed_at);
}

#[tokio::test]
async fn a_job_that_joins_while_the_batch_is_closed_is_refused_or_counted() {
    let world = World::new().await;
    for turn in 0..20 {
        let id = world.try_batch(json!({"on_complete": {"kind": "debug.echo"}})).await.unwrap().answer.batch.id;
        let (joined, closed) = join(world.try_submit(json!({ "batch_id": id })), async {
            tokio::time::sleep(Duration::from_micros(turn * 150)).await;
            operations::close(&world.other, &world.user, id).await
        })
        .await;
        closed.unwrap();
        let n_joined = i32::from(joined.is_ok());
        if let Ok(job) = joined {
            assert!(world.completions(id).await.is_empty(), "it has something to do");
            world.run(job.id, done()).await;
        }
        let batch = world.until_completed(id).await;
        assert_eq!((batch.total, batch.counts.succeeded, world.completions(id).await.len()), (n_joined, n_joined, 1));
        world.run_all().await;
    }
}

#[tokio::test]
async fn a_cancelled_batch_ends_with_all_it_has() {
    let world = World::new().await;
    let id = world.try_batch(json!({"on_complete": {"kind": "debug.echo"}})).await.unwrap().answer.batch.id;
    let running = world.submit(json!({ "batch_id": id })).await;
    let held = world.start().await;
    let ready = world.submit(json!({ "batch_id": id })).await;
    let waiting = world.submit(json!({ "batch_id": id, "depends_on": [ready, running] })).await;
    let batch = operations::cancel(&world.ctx, &world.user, id, &Default::default()).await.unwrap();
    assert!(batch.closed);
    assert_eq!((world.state(ready).await, world.state(waiting).await), (JobState::Cancelled, JobState::Cancelled));
    assert_eq!(batch.counts, BatchCounts { running: 1, cancelled: 2, ..Default::default() });
    assert_eq!(world.count("audit_log WHERE action = 'batch_cancelled'").await, 1);
    // Its worker hears of it, and stops.
    world.end(held[&running], Outcome::Cancelled).await;
    assert_eq!(world.until_completed(id).await.counts.cancelled, 3);
    assert_eq!(world.completions(id).await.len(), 1, "it is submitted all the same");
}

#[tokio::test]
async fn a_dead_member_that_is_requeued_is_counted_where_it_is() {
    let world = World::new().await;
    let (id, ids) = world.batch_of(2).await;
    let held = world.start().await;
    world.end(held[&ids[0]], dead()).await;
    retry::retry(&world.ctx, &world.user, ids[0]).await.unwrap();
    assert_eq!(world.counts(id).await, BatchCounts { pending: 1, running: 1, ..Default::default() });
    world.end(held[&ids[1]], done()).await;
    world.run(ids[0], dead()).await;
    world.until_completed(id).await;
    retry::retry(&world.ctx, &world.user, ids[0]).await.unwrap();
    world.run_all().await;
    until("all is counted", async || world.count_left().await == 0).await;
    let batch = world.batch(id).await;
    assert_eq!((batch.counts.succeeded, batch.counts.dead, world.completions(id).await.len()), (2, 0, 1));
}

#[tokio::test]
async fn a_batch_does_not_wait_for_what_was_deleted() {
    let world = World::new().await;
    let (id, ids) = world.batch_of(2).await;
    world.run(ids[0], done()).await;
    // Held by nobody again, so that it may be deleted.
    world.fixture.empty_redis().await;
    world.fixture.restore().await;
    delete::delete(&world.ctx, &world.user, ids[1]).await.unwrap();
    assert_eq!(world.until_completed(id).await.total, 1);
}

#[tokio::test]
async fn the_jobs_of_a_batch_are_listed_by_page_and_state() {
    let mut world = World::new().await;
    let (id, ids) = world.batch_of(5).await;
    world.submit(json!({})).await;
    let held = world.start().await;
    world.end(held[&ids[1]], dead()).await;
    world.end(held[&ids[2]], done()).await;
    let list = async |world: &World, fields: Value| {
        let mut query = json!({ "batch_id": id });
        query.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let page = list::list(&world.ctx, &world.user, &serde_json::from_value(query).unwrap()).await.unwrap();
        (page.items.iter().map(|job| job.id).collect::<Vec<_>>(), page.next_cursor)
    };
    let (first, cursor) = list(&world, json!({"limit": 3})).await;
    assert_eq!(first, [ids[4], ids[3], ids[2]]);
    assert_eq!(list(&world, json!({"limit": 3, "cursor": cursor})).await, (vec![ids[1], ids[0]], None));
    assert_eq!(list(&world, json!({"state": "dead"})).await.0, [ids[1]]);
    assert_eq!(list(&world, json!({"state": "running"})).await.0, [ids[4], ids[3], ids[0]]);
    world.user = account(&world.ctx, Role::User).await;
    assert!(list(&world, json!({})).await.0.is_empty());
}

#[tokio::test]
async fn a_batch_that_may_not_submit_says_why() {
    let world = World::new().await;
    let (id, ids) = world.batch_of(1).await;
    world.execute("UPDATE users SET disabled = true").await;
    world.run(ids[0], done()).await;
    let batch = world.until_completed(id).await;
    assert_eq!((batch.completion_job_id, batch.error.unwrap().code.as_str()), (None, "forbidden"));
}

#[tokio::test]
async fn a_closed_batch_without_jobs_is_complete() {
    let world = World::new().await;
    let made = world.try_batch(json!({"closed": true, "on_complete": {"kind": "debug.echo"}})).await.unwrap();
    let batch = world.until_completed(made.answer.batch.id).await;
    assert_eq!((batch.total, batch.progress, world.completions(batch.id).await.len()), (0, 100.0, 1));
}

#[tokio::test]
async fn a_duplicate_is_no_part_of_the_batch() {
    let world = World::new().await;
    let job = json!({"kind": "debug.echo", "unique": {"key": "k"}});
    let earlier = world.submit(json!({"unique": {"key": "k"}})).await;
    let made = world.try_batch(json!({"jobs": [job, {"kind": "debug.echo"}]})).await.unwrap().answer;
    assert_eq!((made.job_ids[0], made.batch.total), (earlier, 1));
    world.run(made.job_ids[1], done()).await;
    world.until_completed(made.batch.id).await;
}

#[rstest]
#[case::bad_member(json!({"jobs": [{"kind": "debug.echo"}, {"kind": "nobody.knows"}]}), "/jobs/1/kind")]
#[case::no_members(json!({"jobs": []}), "/jobs")]
#[case::member_of_another(json!({"jobs": [{"kind": "debug.echo", "batch_id": "01a1f640-bc00-7000-8000-000000000001"}]}), "/jobs/0/batch_id")]
#[case::bad_completion(json!({"on_complete": {"kind": "debug.echo", "priority": 11}}), "/on_complete/priority")]
#[case::waiting_completion(json!({"on_complete": {"kind": "debug.echo", "depends_on": ["01a1f640-bc00-7000-8000-000000000001"]}}),
    "/on_complete/depends_on")]
#[case::name(json!({"name": ""}), "/name")]
#[tokio::test]
async fn bad_batches_are_refused_whole(#[case] body: Value, #[case] pointer: &str) {
    let world = World::new().await;
    let error = world.try_batch(body).await.unwrap_err();
    assert_eq!(error.code, Code::ValidationFailed);
    assert_eq!(error.fields[0].pointer, pointer);
    assert_eq!((world.count("batches").await, world.count("jobs").await), (0, 0));
}

#[tokio::test]
async fn batches_and_their_jobs_are_bounded_and_their_owners_own() {
    let mut world = World::with(&[("BATCH_JOBS_MAX", "2"), ("BATCHES_PER_USER_MAX", "1")]).await;
    let id = world.try_batch(json!({})).await.unwrap().answer.batch.id;
    assert_eq!(world.try_batch(json!({})).await.unwrap_err().code, Code::Conflict);
    let verdicts = world.prepare_bulk(&vec![json!({ "batch_id": id }); 3]).await.write(&world.ctx, None).await;
    assert_eq!(verdicts.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(world.counts(id).await.pending, 2);
    world.user = account(&world.ctx, Role::User).await;
    let error = world.try_submit(json!({ "batch_id": id })).await.unwrap_err();
    assert_eq!((error.code, error.fields[0].pointer.as_str()), (Code::ValidationFailed, "/batch_id"));
    assert_eq!(operations::get(&world.ctx, &world.user, id).await.unwrap_err().code, Code::NotFound);
    assert_eq!(operations::close(&world.ctx, &world.user, id).await.unwrap_err().code, Code::NotFound);
    let page = operations::list(&world.ctx, &world.user, &PageQuery::default().parse().unwrap()).await.unwrap();
    assert!(page.items.is_empty());
    world.user = account(&world.ctx, Role::Operator).await;
    assert_eq!(world.batch(id).await.total, 2);
}

#[tokio::test]
async fn a_batch_whose_ends_nobody_told_is_counted_anew_and_old_ones_go() {
    let world = World::new().await;
    let (id, ids) = world.batch_of(2).await;
    let held = world.start().await;
    for (job_id, outcome) in ids.iter().zip([done(), dead()]) {
        world.end_and_be_killed(held[job_id], outcome).await;
    }
    aftermath::see_to_all(&world.ctx).await.unwrap();
    // As if code that knows nothing of batches had ended them.
    world.execute("UPDATE batches SET completed_at = NULL, succeeded = 0, dead = 0").await;
    assert_eq!(upkeep::recount(&world.ctx).await.unwrap(), 0, "it is young");
    world.ctx.clock.advance(time::Duration::minutes(11));
    assert_eq!(upkeep::recount(&world.ctx).await.unwrap(), 1);
    let batch = world.batch(id).await;
    assert_eq!((batch.state, batch.counts.succeeded, batch.counts.dead), (BatchState::Completed, 1, 1));
    assert_eq!(upkeep::prune(&world.ctx, 1_000).await.unwrap(), 0, "it is kept for some days");
    world.ctx.clock.advance(time::Duration::days(8));
    assert_eq!(upkeep::prune(&world.ctx, 1_000).await.unwrap(), 2);
    assert_eq!(upkeep::prune(&world.ctx, 1_000).await.unwrap(), 1);
    assert_eq!((world.count("batches").await, world.count("batch_jobs").await), (0, 0));
}
