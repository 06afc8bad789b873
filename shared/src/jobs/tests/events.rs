//! What is told on the channels of jobs and queues.

use super::*;
use crate::{
    Code,
    channels::{Channel, Filter, Reader, history},
    jobs::{
        cancel,
        engine::{IDS_MAX, QueueKeys, expire, followers},
        events, retry,
    },
    testing::RedisServer,
};
use tokio::time::{Instant, sleep};

fn channel(ctx: &Context, name: &str) -> Channel {
    ctx.namespaces.resolve(name).unwrap()
}

async fn follow(ctx: &Context, id: JobId) -> Channel {
    let channel = channel(ctx, &format!("job:{id}"));
    events::follow(ctx, &channel).await.unwrap();
    channel
}

/// What was published on the channel, as far as its history goes, once there are `n`.
async fn told(ctx: &Context, channel: &Channel, n: usize) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let history = history(ctx, &Reader::Process, channel, &Filter { limit: 300, ..Filter::default() }).await.unwrap();
        if history.publications.len() >= n {
            let bodies = history.publications.iter().map(|publication| serde_json::from_slice::<Value>(&publication.body).unwrap());
            return bodies.map(|body| body["data"].clone()).collect();
        }
        assert!(Instant::now() < deadline, "only {} of {n} events were told", history.publications.len());
        sleep(Duration::from_millis(5)).await;
    }
}

fn names(told: &[Value]) -> Vec<&str> {
    told.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

impl Fixture {
    /// Leases the one job that is ready, says that it has started, and ends it so.
    async fn run(&self, state: &str) {
        let tokens = self.step(Step { want: 1, ..Step::default() }).await;
        self.step(Step { started: tokens.clone(), ..Step::default() }).await;
        self.conclude(&tokens, state).await;
    }

    /// The same of an attempt that is over before its start is noted.
    async fn run_at_once(&self, state: &str) {
        let tokens = self.step(Step { want: 1, ..Step::default() }).await;
        self.conclude(&tokens, state).await;
    }

    async fn conclude(&self, tokens: &[Token], state: &str) {
        self.end(tokens[0].job_id, state).await;
        let action = Action::End { state: if state == "dead" { "dead" } else { "succeeded" } };
        let standing = Standing { priority: 4, attempt: tokens[0].attempt, failures: 0, snoozes: 0, returns: 0, crashes: 0 };
        self.step(Step { finish: vec![Finish { token: tokens[0], action, standing }], ..Step::default() }).await;
    }
}

#[tokio::test]
async fn a_followed_job_tells_its_start_and_its_end_with_the_result() {
    let fixture = Fixture::new().await;
    let id = fixture.echo(json!({"payload": {"n": 1}})).await.id;
    let channel = follow(&fixture.ctx, id).await;
    fixture.run("succeeded").await;
    let told = told(&fixture.ctx, &channel, 2).await;
    assert_eq!(names(&told), ["started", "succeeded"]);
    assert_eq!((&told[0]["job_id"], &told[0]["queue"], &told[0]["attempt"]), (&json!(id), &json!("default"), &json!(1)));
    assert_eq!((&told[1]["result"], &told[1]["error"]), (&json!({"n": 1}), &Value::Null));
    assert!(told[1]["finished_at"].is_string() && told[1]["at"].is_string());
}

#[tokio::test]
async fn processes_that_follow_the_same_job_tell_each_event_once() {
    let fixture = Fixture::new().await;
    let other = fixture.stores.context(&[]);
    let (first, last) = (fixture.echo(json!({})).await.id, fixture.echo(json!({})).await.id);
    let channels = [follow(&fixture.ctx, first).await, follow(&fixture.ctx, last).await];
    follow(&other, first).await;
    follow(&other, last).await;
    fixture.run("succeeded").await;
    fixture.run("dead").await;
    assert_eq!(names(&told(&other, &channels[1], 2).await), ["started", "dead"]);
    assert_eq!(names(&told(&other, &channels[0], 2).await), ["started", "succeeded"]);
}

#[tokio::test]
async fn a_job_that_nobody_follows_tells_nothing() {
    let fixture = Fixture::new().await;
    let (unfollowed, left, followed) =
        (fixture.echo(json!({})).await.id, fixture.echo(json!({})).await.id, fixture.echo(json!({})).await.id);
    events::unfollow(&fixture.ctx, &follow(&fixture.ctx, left).await);
    let heard = follow(&fixture.ctx, followed).await;
    for _ in 0..3 {
        fixture.run("succeeded").await;
    }
    told(&fixture.ctx, &heard, 2).await;
    for silent in [unfollowed, left] {
        assert_eq!(told(&fixture.ctx, &channel(&fixture.ctx, &format!("job:{silent}")), 0).await, Vec::<Value>::new());
    }
}

#[tokio::test]
async fn a_dead_job_that_is_requeued_tells_it_before_its_next_start() {
    let fixture = Fixture::new().await;
    let id = fixture.echo(json!({})).await.id;
    let channel = follow(&fixture.ctx, id).await;
    fixture.run("dead").await;
    told(&fixture.ctx, &channel, 2).await;
    retry::retry(&fixture.ctx, &fixture.user, id).await.unwrap();
    fixture.run("succeeded").await;
    let told = told(&fixture.ctx, &channel, 5).await;
    assert_eq!(names(&told), ["started", "dead", "queued", "started", "succeeded"]);
    assert_eq!(told.iter().map(|event| event["attempt"].as_i64().unwrap()).collect::<Vec<_>>(), [1, 1, 1, 2, 2]);
}

#[tokio::test]
async fn an_attempt_that_is_over_at_once_tells_its_start_as_well() {
    let fixture = Fixture::new().await;
    let id = fixture.echo(json!({})).await.id;
    let channel = follow(&fixture.ctx, id).await;
    fixture.run_at_once("dead").await;
    let told = told(&fixture.ctx, &channel, 2).await;
    assert_eq!(names(&told), ["started", "dead"]);
    assert_eq!(told[0]["at"].as_str().unwrap()[..19], told[1]["started_at"].as_str().unwrap()[..19]);
}

#[tokio::test]
async fn an_attempt_that_failed_at_once_tells_its_start_as_well() {
    let fixture = Fixture::new().await;
    let id = fixture.echo(json!({})).await.id;
    let channel = follow(&fixture.ctx, id).await;
    let tokens = fixture.step(Step { want: 1, ..Step::default() }).await;
    // What is being settled has begun.
    fixture.step(Step { mark: tokens.clone(), ..Step::default() }).await;
    let standing = Standing { priority: 4, attempt: 1, failures: 1, snoozes: 0, returns: 0, crashes: 0 };
    let action = Action::Requeue { run_at: fixture.ctx.clock.now() };
    fixture.step(Step { finish: vec![Finish { token: tokens[0], action, standing }], ..Step::default() }).await;
    assert_eq!(names(&told(&fixture.ctx, &channel, 2).await), ["started", "queued"]);
}

/// As where another process that follows the job hears less, or later: the row was read before the announcements were.
#[tokio::test]
async fn a_start_that_is_heard_after_its_end_was_told_before_it() {
    let fixture = Fixture::new().await;
    let id = fixture.echo(json!({})).await.id;
    let channel = follow(&fixture.ctx, id).await;
    fixture.end(id, "dead").await;
    let at_ms = crate::clock::unix_ms(fixture.ctx.clock.now());
    for event in ["dead", "started", "queued"] {
        let line = format!("{id} {event} 1 {at_ms}");
        let mut cmd = redis::cmd("PUBLISH");
        cmd.arg(fixture.ctx.keys.job_events()).arg(line).exec_async(&mut fixture.ctx.redis.connection()).await.unwrap();
    }
    assert_eq!(names(&told(&fixture.ctx, &channel, 3).await), ["started", "dead", "queued"]);
}

#[tokio::test]
async fn only_the_usual_spelling_of_an_id_that_is_there_can_be_followed() {
    let fixture = Fixture::new().await;
    let id = fixture.echo(json!({})).await.id;
    for name in [format!("job:{}", id.to_string().to_uppercase()), format!("job:{}", id.0.simple()), format!("job:{}", JobId::new())] {
        let refused = events::follow(&fixture.ctx, &channel(&fixture.ctx, &name)).await.unwrap_err();
        assert_eq!(refused.code, Code::NotFound, "{name}");
    }
}

#[tokio::test]
async fn a_followed_queue_tells_its_stats() {
    let fixture = Fixture::new().await;
    fixture.echo(json!({})).await;
    let channel = channel(&fixture.ctx, "queue:default");
    events::follow(&fixture.ctx, &channel).await.unwrap();
    let told = told(&fixture.ctx, &channel, 1).await;
    assert_eq!((&told[0]["event"], &told[0]["queue"], &told[0]["stats"]["queued"]), (&json!("stats"), &json!("default"), &json!(1)));
}

/// The announcement was lost with the Redis of that time.
#[tokio::test]
async fn an_end_that_was_not_announced_is_told_when_redis_is_back() {
    let mut redis = RedisServer::start().await;
    let mut stores = TestStores::create().await;
    stores.use_redis(&redis);
    let fixture = Fixture { ctx: stores.context(&[]), user: caller(Role::User), nonce: Nonce::new(), stores };
    let id = fixture.echo(json!({})).await.id;
    let channel = follow(&fixture.ctx, id).await;
    redis.kill();
    fixture.end(id, "succeeded").await;
    redis.restart().await;
    let deadline = Instant::now() + Duration::from_secs(20);
    let newest = Filter::newest(1);
    while !history(&fixture.ctx, &Reader::Process, &channel, &newest).await.is_ok_and(|history| !history.publications.is_empty()) {
        assert!(Instant::now() < deadline, "Redis is back, and the end is not told");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(names(&told(&fixture.ctx, &channel, 2).await), ["started", "succeeded"]);
}

/// Marking many jobs at once stays within what one command may hold.
#[tokio::test]
async fn more_jobs_than_one_command_holds_are_marked() {
    let fixture = Fixture::new().await;
    let ids: Vec<JobId> = (0..=IDS_MAX).map(|_| JobId::new()).collect();
    let queue = "default".parse().unwrap();
    followers::follow(&fixture.ctx, &queue, &ids, Duration::from_mins(1)).await.unwrap();
    let keys = QueueKeys::new(&fixture.ctx.keys, &queue);
    let n_marked: usize = redis::cmd("ZCARD").arg(keys.followed()).query_async(&mut fixture.ctx.redis.connection()).await.unwrap();
    assert_eq!(n_marked, ids.len());
}

#[tokio::test]
async fn a_job_that_is_cancelled_while_it_waits_tells_it() {
    let fixture = Fixture::new().await;
    let id = fixture.echo(json!({})).await.id;
    let channel = follow(&fixture.ctx, id).await;
    cancel::cancel(&fixture.ctx, &fixture.user, id).await.unwrap();
    assert_eq!(names(&told(&fixture.ctx, &channel, 1).await), ["cancelled"]);
}

#[tokio::test]
async fn marks_last_by_the_clock_of_redis_whatever_the_processs_own_says() {
    let fixture = Fixture::new().await;
    fixture.ctx.clock.advance(time::Duration::minutes(-10));
    let id = fixture.echo(json!({})).await.id;
    follow(&fixture.ctx, id).await;
    let keys = QueueKeys::new(&fixture.ctx.keys, &"default".parse().unwrap());
    expire::promote(&mut fixture.ctx.redis.connection(), &keys).await.unwrap();
    let n_marked: usize = redis::cmd("ZCARD").arg(keys.followed()).query_async(&mut fixture.ctx.redis.connection()).await.unwrap();
    assert_eq!(n_marked, 1);
}
