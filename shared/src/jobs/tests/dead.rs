//! Dead letters of a queue: listed, grouped, requeued and deleted, each bounded and in order.

use super::*;
use crate::{
    Code,
    accounts::Origin as From,
    jobs::{
        JobState, attempts,
        queues::{self, DeadLetters, SelectDead},
        read,
    },
    page::PageQuery,
};

fn default_queue() -> crate::jobs::QueueName {
    "default".parse().unwrap()
}

impl Fixture {
    /// A job that died of `code`.
    async fn dead(&self, code: &str) -> JobId {
        let id = self.echo(json!({"delay_ms": 60_000})).await.id;
        self.end(id, "dead").await;
        let told = "UPDATE jobs_ended SET error_code = $2, error_message = 'because ' || $2, crashes = 2 WHERE id = $1";
        sqlx::query(told).bind(id.0).bind(code).execute(&self.ctx.pg).await.unwrap();
        let noted = "INSERT INTO job_attempts (job_id, attempt, outcome, finished_at) VALUES ($1, 1, 'failed', now())";
        sqlx::query(noted).bind(id.0).execute(&self.ctx.pg).await.unwrap();
        id
    }

    async fn list_dead(&self, query: Value) -> Result<DeadLetters> {
        queues::list_dead(&self.ctx, &caller(Role::Operator), &default_queue(), &serde_json::from_value(query).unwrap()).await
    }

    async fn dead_jobs(&self, query: Value) -> (Vec<JobId>, Option<String>) {
        let DeadLetters::Jobs(page) = self.list_dead(query).await.unwrap() else { panic!("jobs were asked for") };
        (page.items.iter().map(|job| job.id).collect(), page.next_cursor)
    }

    async fn dead_groups(&self, query: Value) -> (Vec<(String, u64, JobId, String)>, Option<String>) {
        let DeadLetters::Groups(page) = self.list_dead(query).await.unwrap() else { panic!("groups were asked for") };
        let groups = page.items.into_iter().map(|group| (group.code, group.count, group.sample_id, group.message));
        (groups.collect(), page.next_cursor)
    }

    async fn requeue(&self, which: Value) -> Result<u64> {
        let which: SelectDead = serde_json::from_value(which).unwrap();
        let requeued = queues::requeue_dead(&self.ctx, &caller(Role::Operator), &default_queue(), &which, &From::default()).await?;
        assert!(!requeued.more);
        Ok(requeued.requeued)
    }

    async fn delete_dead(&self, which: Value) -> Result<u64> {
        let which: SelectDead = serde_json::from_value(which).unwrap();
        Ok(queues::delete_dead(&self.ctx, &caller(Role::Operator), &default_queue(), &which, &From::default()).await?.removed)
    }
}

#[tokio::test]
async fn dead_letters_are_paged_from_the_newest_on() {
    let fixture = Fixture::new().await;
    let (a, b, c) = (fixture.dead("x").await, fixture.dead("y").await, fixture.dead("x").await);
    fixture.echo(json!({})).await;
    let (first, cursor) = fixture.dead_jobs(json!({"limit": 2})).await;
    assert_eq!(first, [c, b]);
    assert_eq!(fixture.dead_jobs(json!({"limit": 2, "cursor": cursor})).await, (vec![a], None));
    let (first, cursor) = fixture.dead_jobs(json!({"limit": 1, "error_code": "x"})).await;
    assert_eq!(first, [c]);
    assert_eq!(fixture.dead_jobs(json!({"error_code": "x", "cursor": cursor})).await, (vec![a], None));
}

#[tokio::test]
async fn groups_tell_each_error_with_its_newest_job() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.dead_groups(json!({"group": "error"})).await, (vec![], None));
    let (_, b, c) = (fixture.dead("x").await, fixture.dead("y").await, fixture.dead("x").await);
    let x = ("x".to_owned(), 2, c, "because x".to_owned());
    let y = ("y".to_owned(), 1, b, "because y".to_owned());
    assert_eq!(fixture.dead_groups(json!({"group": "error"})).await, (vec![x.clone(), y.clone()], None));
    let (first, cursor) = fixture.dead_groups(json!({"group": "error", "limit": 1})).await;
    assert_eq!(first, [x]);
    assert_eq!(fixture.dead_groups(json!({"group": "error", "limit": 1, "cursor": cursor})).await, (vec![y], None));
    let both = fixture.list_dead(json!({"group": "error", "error_code": "x"})).await.unwrap_err();
    assert_eq!(both.code, Code::InvalidQuery);
}

#[tokio::test]
async fn requeued_jobs_keep_id_and_history_and_count_their_attempts_on() {
    let fixture = Fixture::new().await;
    let (a, b) = (fixture.dead("x").await, fixture.dead("x").await);
    assert_eq!(fixture.requeue(json!({"error_code": "x"})).await.unwrap(), 2);
    assert_eq!(fixture.requeue(json!({"error_code": "x"})).await.unwrap(), 0, "repeating it does no harm");
    for id in [a, b] {
        let job = read::get(&fixture.ctx, &fixture.user, id).await.unwrap();
        assert_eq!((job.state, job.attempt, job.finished_at), (JobState::Queued, 1, None));
        let history = attempts::list(&fixture.ctx, &fixture.user, id, &PageQuery::default().parse().unwrap()).await.unwrap();
        assert_eq!(history.items.len(), 1);
    }
    assert_eq!(fixture.count("jobs WHERE failures = 0 AND crashes = 0 AND attempt = 1").await, 2);
    assert_eq!(fixture.lease().await, 2);
}

#[tokio::test]
async fn only_what_was_selected_is_touched_and_what_lives_is_passed_over() {
    let fixture = Fixture::new().await;
    let (a, b, c) = (fixture.dead("x").await, fixture.dead("y").await, fixture.dead("y").await);
    let living = fixture.echo(json!({})).await.id;
    assert_eq!(fixture.requeue(json!({"ids": [a, living, JobId::new()]})).await.unwrap(), 1);
    assert_eq!(fixture.delete_dead(json!({"ids": [a, b, living]})).await.unwrap(), 1, "the requeued one lives");
    assert_eq!(fixture.dead_jobs(json!({})).await.0, [c]);
    let other = "other".parse().unwrap();
    queues::update(
        &fixture.ctx,
        &caller(Role::Operator),
        &other,
        &serde_json::from_value(json!({})).unwrap(),
        &crate::accounts::Origin::default(),
        |_| Ok(()),
    )
    .await
    .unwrap();
    let which = serde_json::from_value(json!({"ids": [c]})).unwrap();
    let elsewhere = queues::delete_dead(&fixture.ctx, &caller(Role::Operator), &other, &which, &From::default()).await.unwrap();
    assert_eq!(elsewhere.removed, 0);
    assert_eq!(fixture.delete_dead(json!({"all": true})).await.unwrap(), 1);
    assert_eq!((fixture.count("jobs").await, fixture.count("jobs_ended").await, fixture.count("job_attempts").await), (2, 0, 1));
}

#[tokio::test]
async fn many_go_in_steps_and_leave_one_entry_in_the_audit_log() {
    let fixture = Fixture::new().await;
    let id = fixture.dead("x").await;
    sqlx::query(
        "INSERT INTO jobs_ended
        SELECT (r).* FROM (
            SELECT jsonb_populate_record(j, jsonb_build_object('id', gen_random_uuid())) AS r
            FROM jobs_ended AS j, generate_series(1, 1200) WHERE j.id = $1) AS copies",
    )
    .bind(id.0)
    .execute(&fixture.ctx.pg)
    .await
    .unwrap();
    assert_eq!(fixture.requeue(json!({"all": true})).await.unwrap(), 1_201);
    let depths = crate::jobs::engine::depths(&fixture.ctx, &default_queue()).await.unwrap();
    assert_eq!(depths.queued, 1_201);
    assert_eq!(fixture.count("audit_log WHERE action = 'dead_requeued' AND detail->>'jobs' = '1201'").await, 1);
    assert_eq!(fixture.requeue(json!({"all": true})).await.unwrap(), 0);
    assert_eq!(fixture.count("audit_log").await, 1, "nothing was done the second time");
}

#[tokio::test]
async fn a_selector_is_exactly_one_and_bounded() {
    let fixture = Fixture::new().await;
    let ids = vec![JobId::new(); 1_001];
    for which in [json!({}), json!({"all": false}), json!({"all": true, "error_code": "x"}), json!({"ids": []}), json!({"ids": ids})] {
        assert_eq!(fixture.requeue(which).await.unwrap_err().code, Code::ValidationFailed);
    }
}

#[tokio::test]
async fn one_request_of_an_operator_deals_with_dead_letters_at_a_time() {
    let fixture = Fixture::new().await;
    fixture.dead("x").await;
    let operator = caller(Role::Operator);
    let all = serde_json::from_value(json!({"all": true})).unwrap();
    let turn = fixture.ctx.jobs.dead_letters.at_once(operator.user_id).unwrap();
    let refusal = queues::requeue_dead(&fixture.ctx, &operator, &default_queue(), &all, &From::default()).await.unwrap_err();
    assert_eq!(refusal.code, Code::Overloaded);
    drop(turn);
    assert_eq!(queues::requeue_dead(&fixture.ctx, &operator, &default_queue(), &all, &From::default()).await.unwrap().requeued, 1);
}

#[tokio::test]
async fn dead_letters_outlive_their_queue() {
    let fixture = Fixture::new().await;
    let id = fixture.dead("x").await;
    sqlx::query("DELETE FROM queues WHERE name = 'default'").execute(&fixture.ctx.pg).await.unwrap();
    assert_eq!(fixture.dead_jobs(json!({})).await.0, [id]);
    assert_eq!(fixture.requeue(json!({"all": true})).await.unwrap(), 1);
    assert_eq!(fixture.list_dead(json!({})).await.unwrap_err().code, Code::NotFound, "nothing is left to show");
}

#[tokio::test]
async fn dead_letters_are_for_operators_and_of_queues_that_exist() {
    let fixture = Fixture::new().await;
    let which = serde_json::from_value(json!({"all": true})).unwrap();
    let refused = queues::requeue_dead(&fixture.ctx, &fixture.user, &default_queue(), &which, &From::default()).await.unwrap_err();
    assert_eq!(refused.code, Code::InsufficientScope);
    let refused = queues::list_dead(&fixture.ctx, &fixture.user, &default_queue(), &queues::ListDead::default()).await.unwrap_err();
    assert_eq!(refused.code, Code::InsufficientScope);
    let nowhere = "nowhere".parse().unwrap();
    let operator = caller(Role::Operator);
    let missing = queues::list_dead(&fixture.ctx, &operator, &nowhere, &queues::ListDead::default()).await.unwrap_err();
    assert_eq!(missing.code, Code::NotFound);
}
