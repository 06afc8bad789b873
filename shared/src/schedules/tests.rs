//! Schedules on real servers: what fires when, once, by whom, and what is refused.

use super::{
    NewSchedule, NextQuery, PatchSchedule, Schedule,
    fire::{self, Pass},
    operations,
};
use crate::{
    Caller, Code, Context, Result, Role,
    accounts::Origin,
    caller::Credential,
    ids::{JobId, ScheduleId, SessionId, UserId},
    jobs::{Job, ListJobs, list},
    page::{Page, PageQuery},
    testing::TestStores,
};
use rstest::rstest;
use serde_json::{Value, json};
use time::Duration;

struct Fixture {
    ctx: Context,
    user: Caller,
    /// A second process on the same servers, whose clock moves by itself.
    other: Context,
    stores: TestStores,
}

impl Fixture {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(overrides: &[(&str, &str)]) -> Self {
        let stores = TestStores::create().await;
        let (ctx, other) = (stores.context(overrides), stores.context(overrides));
        let user = account(&ctx, Role::User).await;
        Self { ctx, user, other, stores }
    }

    async fn try_create(&self, caller: &Caller, fields: Value) -> Result<Schedule> {
        let mut body = json!({"name": "test", "kind": "debug.echo"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let new: NewSchedule = serde_json::from_str(&body.to_string()).unwrap();
        let mut tx = self.ctx.pg.begin().await.unwrap();
        let schedule = operations::create(&self.ctx, &mut tx, caller, new).await?;
        tx.commit().await.unwrap();
        Ok(schedule)
    }

    /// One that fires every minute.
    async fn minutely(&self, fields: Value) -> Schedule {
        let mut all = json!({"every_ms": 60_000});
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.try_create(&self.user, all).await.unwrap()
    }

    async fn patch(&self, id: ScheduleId, patch: Value) -> Result<Schedule> {
        let patch: PatchSchedule = serde_json::from_value(patch).unwrap();
        operations::update(&self.ctx, &self.user, id, patch, |_| Ok(())).await
    }

    async fn get(&self, id: ScheduleId) -> Schedule {
        operations::get(&self.ctx, &self.user, id).await.unwrap()
    }

    /// Lets time pass for everybody.
    fn pass(&self, time: Duration) {
        self.ctx.clock.advance(time);
        self.other.clock.advance(time);
    }

    /// As when the second is over for which settings of queues are remembered.
    fn forget_queues(&mut self) {
        self.ctx = self.stores.context(&[]);
    }

    async fn fire(&self) -> Pass {
        fire::fire_due(&self.ctx).await.unwrap()
    }

    /// The jobs of a schedule, the newest first.
    async fn jobs(&self, schedule: &Schedule) -> Vec<Job> {
        let query = ListJobs { tag: Some(schedule.tag()), ..ListJobs::default() };
        list::list(&self.ctx, &self.user, &query).await.unwrap().items
    }

    async fn trigger(&self, id: ScheduleId) -> Result<Job> {
        let mut tx = self.ctx.pg.begin().await.unwrap();
        let made = fire::trigger(&self.ctx, &mut tx, &self.user, id).await?;
        tx.commit().await.unwrap();
        fire::announce(&self.ctx, &made).await;
        Ok(made.job)
    }

    async fn end(&self, id: JobId) {
        sqlx::query("DELETE FROM jobs WHERE id = $1").bind(id.0).execute(&self.ctx.pg).await.unwrap();
    }
}

/// Somebody who can sign in.
async fn account(ctx: &Context, role: Role) -> Caller {
    let id = UserId::new();
    sqlx::query("INSERT INTO users (id, email, password_hash, role, created_at, updated_at) VALUES ($1, $2, '', $3, now(), now())")
        .bind(id.0)
        .bind(format!("{id}@example.org"))
        .bind(role.as_str())
        .execute(&ctx.pg)
        .await
        .unwrap();
    Caller::new(id, role, role.scopes(), Credential::Session(SessionId::new()))
}

#[tokio::test]
async fn what_is_due_is_submitted_in_its_owners_name_and_the_schedule_moves_on() {
    let fixture = Fixture::new().await;
    let job = json!({"priority": 7, "tags": ["nightly"], "retry": {"max_attempts": 2}});
    let schedule = fixture.minutely(json!({"payload": {"a": 1}, "queue": "reports", "job": job})).await;
    assert_eq!(fixture.fire().await, Pass { next_due: schedule.next_run_at, n_failed: 0 }, "nothing is due yet");
    fixture.pass(Duration::seconds(61));
    let pass = fixture.fire().await;
    let jobs = fixture.jobs(&schedule).await;
    let [job] = &jobs[..] else { panic!("one job is made: {jobs:?}") };
    assert_eq!((job.queue.as_str(), job.priority, job.max_attempts, job.owner_id), ("reports", 7, 2, fixture.user.user_id));
    assert_eq!((job.payload.get(), &job.tags), (r#"{"a":1}"#, &vec!["nightly".to_owned(), schedule.tag()]));
    let after = fixture.get(schedule.id).await;
    assert_eq!((after.last_run_at, after.last_job_id, after.last_error), (schedule.next_run_at, Some(job.id), None));
    assert_eq!(after.next_run_at, schedule.next_run_at.map(|at| at + Duration::minutes(1)));
    assert_eq!(pass.next_due, after.next_run_at);
}

#[tokio::test]
async fn two_leaders_at_once_fire_each_occurrence_once() {
    let fixture = Fixture::new().await;
    let schedule = fixture.minutely(json!({"catch_up": true})).await;
    for _ in 0..5 {
        fixture.pass(Duration::minutes(3));
        let (one, two) = tokio::join!(fire::fire_due(&fixture.ctx), fire::fire_due(&fixture.other));
        assert_eq!((one.unwrap().n_failed, two.unwrap().n_failed), (0, 0));
        // What both left over, as each only saw what was due when it looked.
        while fixture.fire().await.next_due <= Some(fixture.ctx.clock.now()) {}
    }
    assert_eq!(fixture.jobs(&schedule).await.len(), 15);
}

#[tokio::test]
async fn a_leader_that_comes_back_to_an_old_occurrence_makes_nothing_of_it() {
    let fixture = Fixture::new().await;
    let schedule = fixture.minutely(json!({})).await;
    fixture.pass(Duration::seconds(61));
    fixture.fire().await;
    // As a restored backup of the row would have it.
    sqlx::query("UPDATE schedules SET next_run_at = $1").bind(schedule.next_run_at).execute(&fixture.ctx.pg).await.unwrap();
    fixture.fire().await;
    assert_eq!(fixture.jobs(&schedule).await.len(), 1);
}

#[tokio::test]
async fn what_nobody_was_there_for_is_left_out_or_made_up_for() {
    let fixture = Fixture::new().await;
    let forgetful = fixture.minutely(json!({"name": "forgetful", "every_ms": 600_000})).await;
    let catching_up = fixture.minutely(json!({"name": "catching up", "catch_up": true, "every_ms": 600_000})).await;
    fixture.pass(Duration::minutes(55));
    for _ in 0..6 {
        fixture.fire().await;
    }
    assert_eq!(fixture.jobs(&forgetful).await.len(), 0, "the last one is five minutes late");
    assert_eq!(fixture.get(forgetful.id).await.next_run_at, forgetful.next_run_at.map(|at| at + Duration::minutes(50)));
    assert_eq!(fixture.jobs(&catching_up).await.len(), 5);
}

#[tokio::test]
async fn overlap_says_what_becomes_of_a_job_that_is_still_to_be_done() {
    let fixture = Fixture::new().await;
    let mut schedules = Vec::new();
    for overlap in ["allow", "skip", "cancel_old"] {
        schedules.push(fixture.minutely(json!({"name": overlap, "overlap": overlap})).await);
    }
    for _ in 0..2 {
        fixture.pass(Duration::seconds(60));
        fixture.fire().await;
    }
    let mut states = Vec::new();
    for schedule in &schedules {
        states.push(fixture.jobs(schedule).await.iter().map(|job| job.state.as_str()).collect::<Vec<_>>());
    }
    assert_eq!(states, [vec!["queued", "queued"], vec!["queued"], vec!["queued", "cancelled"]]);
    let skipped = fixture.jobs(&schedules[1]).await[0].id;
    assert_eq!(fixture.trigger(schedules[1].id).await.unwrap_err().code, Code::Conflict);
    fixture.end(skipped).await;
    fixture.pass(Duration::seconds(60));
    fixture.fire().await;
    assert_eq!(fixture.jobs(&schedules[1]).await.len(), 1, "once it is over, the schedule goes on");
}

#[tokio::test]
async fn an_occurrence_that_is_answered_by_the_job_that_is_there_does_not_cancel_it() {
    let fixture = Fixture::new().await;
    let job = json!({"unique": {"key": "report"}});
    let schedule = fixture.minutely(json!({"overlap": "cancel_old", "job": job})).await;
    fixture.pass(Duration::seconds(60));
    fixture.fire().await;
    let first = fixture.jobs(&schedule).await[0].id;
    fixture.pass(Duration::seconds(60));
    fixture.fire().await;
    assert_eq!(fixture.trigger(schedule.id).await.unwrap().id, first);
    let jobs = fixture.jobs(&schedule).await;
    assert_eq!(jobs.iter().map(|job| (job.id, job.state.as_str())).collect::<Vec<_>>(), [(first, "queued")]);
    assert_eq!(fixture.get(schedule.id).await.last_job_id, Some(first));
}

#[tokio::test]
async fn a_paused_schedule_fires_only_by_hand_and_makes_up_for_nothing() {
    let fixture = Fixture::new().await;
    let schedule = fixture.minutely(json!({"catch_up": true})).await;
    let paused = operations::pause(&fixture.ctx, &fixture.user, schedule.id).await.unwrap();
    assert_eq!((paused.paused, paused.next_run_at), (true, None));
    fixture.pass(Duration::minutes(10));
    fixture.fire().await;
    assert_eq!(fixture.jobs(&schedule).await.len(), 0);
    let by_hand = fixture.trigger(schedule.id).await.unwrap();
    assert_eq!(fixture.get(schedule.id).await.last_job_id, Some(by_hand.id));
    let resumed = operations::resume(&fixture.ctx, &fixture.user, schedule.id).await.unwrap();
    assert!(resumed.next_run_at > Some(fixture.ctx.clock.now() + Duration::seconds(59)));
    fixture.fire().await;
    assert_eq!(fixture.jobs(&schedule).await.len(), 1);
}

#[tokio::test]
async fn a_changed_rule_counts_from_the_change() {
    let fixture = Fixture::new().await;
    let schedule = fixture.minutely(json!({})).await;
    fixture.pass(Duration::seconds(30));
    let renamed = fixture.patch(schedule.id, json!({"name": "other"})).await.unwrap();
    assert_eq!((renamed.name.as_str(), renamed.next_run_at), ("other", schedule.next_run_at));
    let faster = fixture.patch(schedule.id, json!({"every_ms": 1000})).await.unwrap();
    assert_eq!((faster.every_ms, faster.cron.as_deref()), (Some(1_000), None));
    assert!(faster.next_run_at <= Some(fixture.ctx.clock.now() + Duration::seconds(1)));
    let yearly = fixture.patch(schedule.id, json!({"cron": "0 0 1 1 *", "timezone": "europe/berlin"})).await.unwrap();
    assert_eq!((yearly.every_ms, yearly.cron.as_deref(), yearly.timezone.as_str()), (None, Some("0 0 1 1 *"), "Europe/Berlin"));
    let next = operations::next(&fixture.ctx, &fixture.user, schedule.id, &NextQuery { count: Some(2) }).await.unwrap();
    assert_eq!((next.items.len(), next.items[0].0), (2, yearly.next_run_at.unwrap()));
}

#[rstest]
#[case::neither(json!({}), "/cron")]
#[case::both(json!({"cron": "* * * * *", "every_ms": 1000}), "/every_ms")]
#[case::never(json!({"cron": "0 0 31 2 *"}), "/cron")]
#[case::no_zone(json!({"cron": "0 0 1 2 *", "timezone": "Mars/Olympus"}), "/timezone")]
#[case::no_zone_for_a_period(json!({"every_ms": 1000, "timezone": "Mars/Olympus"}), "/timezone")]
#[case::too_often(json!({"every_ms": 999}), "/every_ms")]
#[case::nameless(json!({"every_ms": 1000, "name": ""}), "/name")]
#[case::unknown_kind(json!({"every_ms": 1000, "kind": "nobody.knows"}), "/kind")]
#[case::bad_queue(json!({"every_ms": 1000, "queue": "a b"}), "/queue")]
#[case::bad_priority(json!({"every_ms": 1000, "job": {"priority": 10}}), "/job/priority")]
#[case::bad_retry(json!({"every_ms": 1000, "job": {"retry": {"base_ms": 10, "max_ms": 5}}}), "/job/retry/base_ms")]
#[case::bad_tags(json!({"every_ms": 1000, "job": {"tags": ["a\nb"]}}), "/job/tags")]
#[tokio::test]
async fn what_could_never_work_is_refused(#[case] fields: Value, #[case] pointer: &str) {
    let fixture = Fixture::new().await;
    let error = fixture.try_create(&fixture.user, fields).await.unwrap_err();
    assert_eq!(error.fields.iter().map(|field| field.pointer.as_str()).collect::<Vec<_>>(), [pointer], "{error:?}");
}

#[tokio::test]
async fn users_have_their_own_schedules_and_operators_see_all() {
    let fixture = Fixture::with(&[("SCHEDULES_PER_USER_MAX", "2")]).await;
    let schedule = fixture.minutely(json!({})).await;
    let (eve, operator) = (account(&fixture.ctx, Role::User).await, account(&fixture.ctx, Role::Operator).await);
    let seen = async |caller: &Caller| operations::get(&fixture.ctx, caller, schedule.id).await.map_err(|error| error.code);
    assert_eq!(seen(&eve).await.unwrap_err(), Code::NotFound);
    assert_eq!(seen(&operator).await.unwrap().id, schedule.id);
    let patch = || PatchSchedule::default();
    let changed = operations::update(&fixture.ctx, &eve, schedule.id, patch(), |_| Ok(())).await;
    assert_eq!(changed.unwrap_err().code, Code::NotFound);
    let taken = fixture.try_create(&fixture.user, json!({"every_ms": 1000})).await.unwrap_err();
    assert_eq!(taken.code, Code::Conflict, "the name is taken");
    fixture.try_create(&eve, json!({"every_ms": 1000})).await.expect("names are each user's own");
    fixture.minutely(json!({"name": "second"})).await;
    assert_eq!(fixture.try_create(&fixture.user, json!({"every_ms": 1000, "name": "third"})).await.unwrap_err().code, Code::Conflict);
    let page = |page: Page<Schedule>| page.items.len();
    let request = PageQuery::default().parse().unwrap();
    assert_eq!(page(operations::list(&fixture.ctx, &fixture.user, &request).await.unwrap()), 2);
    assert_eq!(page(operations::list(&fixture.ctx, &operator, &request).await.unwrap()), 3);
    operations::delete(&fixture.ctx, &fixture.user, schedule.id, &Origin::default()).await.unwrap();
    assert_eq!(seen(&operator).await.unwrap_err(), Code::NotFound);
}

#[tokio::test]
async fn a_submit_that_is_refused_shows_on_the_schedule_and_does_not_stop_it() {
    let mut fixture = Fixture::new().await;
    let schedule = fixture.minutely(json!({"queue": "full"})).await;
    let fine = fixture.minutely(json!({"name": "fine"})).await;
    sqlx::query("UPDATE queues SET max_depth = 0 WHERE name = 'full'").execute(&fixture.ctx.pg).await.unwrap();
    fixture.forget_queues();
    fixture.pass(Duration::seconds(61));
    assert_eq!(fixture.fire().await.n_failed, 0);
    let after = fixture.get(schedule.id).await;
    assert_eq!(after.last_error.map(|error| error.code), Some("queue_full".to_owned()));
    assert_eq!(after.next_run_at, schedule.next_run_at.map(|at| at + Duration::minutes(1)));
    assert_eq!(fixture.jobs(&fine).await.len(), 1);
    sqlx::query("UPDATE users SET disabled = true").execute(&fixture.ctx.pg).await.unwrap();
    fixture.pass(Duration::seconds(60));
    fixture.fire().await;
    assert_eq!(fixture.get(fine.id).await.last_error.map(|error| error.code), Some("forbidden".to_owned()));
}

#[tokio::test]
async fn jobs_of_a_schedule_are_durable_also_where_their_queue_is_not() {
    let mut fixture = Fixture::new().await;
    let schedule = fixture.minutely(json!({"queue": "volatile", "overlap": "skip"})).await;
    sqlx::query("UPDATE queues SET durability = 'redis' WHERE name = 'volatile'").execute(&fixture.ctx.pg).await.unwrap();
    fixture.forget_queues();
    for _ in 0..2 {
        fixture.pass(Duration::seconds(60));
        fixture.fire().await;
    }
    assert_eq!(fixture.jobs(&schedule).await.len(), 1, "it has a row, by which it is known to be still to do");
}

#[tokio::test]
async fn occurrences_are_forgotten_when_nobody_can_come_back_to_them() {
    let fixture = Fixture::new().await;
    let schedule = fixture.minutely(json!({})).await;
    for _ in 0..2 {
        fixture.pass(Duration::seconds(60));
        fixture.fire().await;
    }
    fixture.end(fixture.jobs(&schedule).await[0].id).await;
    fixture.pass(Duration::days(2));
    assert_eq!(fire::prune(&fixture.ctx, 10).await.unwrap(), 1, "the other one's job is still to be done");
}
