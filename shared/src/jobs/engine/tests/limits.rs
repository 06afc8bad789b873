//! Limits of a queue: how many at once, how many per time, how many per concurrency key; and that nothing is stranded by them.

use super::*;
use crate::jobs::{engine::set_limits, queues::Rate};
use proptest::prelude::*;
use std::collections::HashMap;

const NONE: Limits = Limits { concurrency: None, rate: None, per_key: None };

impl Fixture {
    async fn limited(limits: Limits) -> Self {
        let fixture = Self::new().await;
        set_limits(&fixture.ctx, &fixture.queue, &limits).await.unwrap();
        fixture
    }

    async fn keyed(&self, key: &str) -> JobId {
        let job = Enqueue { concurrency_key: Some(key.to_owned()), ..self.row().await };
        sqlx::query("UPDATE jobs SET concurrency_key = $2 WHERE id = $1").bind(job.id.0).bind(key).execute(&self.ctx.pg).await.unwrap();
        self.enqueue(&job).await;
        job.id
    }

    async fn end_all(&self, worker: &Holder, leased: &[Leased]) {
        let finish = |leased: &Leased| end(token_of(worker, leased), leased.standing, "succeeded");
        self.step(worker, Step { finish: leased.iter().map(finish).collect(), ..Step::default() }).await;
    }

    /// What a purge does to a waiting job.
    async fn forget(&self, id: JobId) {
        redis::cmd("HDEL").arg(self.keys.att()).arg(id.to_string()).exec_async(&mut self.connection.clone()).await.unwrap();
    }

    /// Lets leases expire, or keys be looked at again, as time would.
    async fn expire(&self, set: &str) {
        let members: Vec<String> = redis::cmd("ZRANGE").arg(set).arg(0).arg(-1).query_async(&mut self.connection.clone()).await.unwrap();
        for member in members {
            redis::cmd("ZADD").arg(set).arg(1).arg(member).exec_async(&mut self.connection.clone()).await.unwrap();
        }
    }
}

fn token_of(worker: &Holder, leased: &Leased) -> Token {
    Token { job_id: leased.id, attempt: leased.standing.attempt, nonce: worker.nonce }
}

fn ids(leased: &[Leased]) -> Vec<JobId> {
    leased.iter().map(|leased| leased.id).collect()
}

#[tokio::test]
async fn no_more_are_leased_at_once_than_the_queue_allows_over_all_workers() {
    let fixture = Fixture::limited(Limits { concurrency: Some(3), ..NONE }).await;
    for _ in 0..6 {
        fixture.job().await;
    }
    let (one, two) = (worker(), worker());
    let first = fixture.step(&one, Step { want: 2, ..Step::default() }).await;
    assert_eq!((first.leased.len(), first.more), (2, true));
    let second = fixture.step(&two, Step { want: 10, ..Step::default() }).await;
    assert_eq!((second.leased.len(), second.more, second.again_after), (1, false, None), "it need not ask again until it rings");
    let mut bell = fixture.ctx.redis.pubsub().await.unwrap();
    bell.subscribe(fixture.ctx.keys.doorbell()).await.unwrap();
    fixture.end_all(&one, &first.leased).await;
    let rung = tokio::time::timeout(Duration::from_secs(5), futures_util::StreamExt::next(&mut bell.on_message())).await;
    assert!(rung.is_ok_and(|message| message.is_some()), "those who found no room hear that there is some");
    assert_eq!(fixture.lease(&two, 10).await.len(), 2);
}

#[tokio::test]
async fn a_dead_worker_holds_no_place() {
    let fixture = Fixture::limited(Limits { concurrency: Some(1), per_key: Some(1), ..NONE }).await;
    fixture.keyed("a").await;
    let next = fixture.keyed("a").await;
    let dead = fixture.start_one(&worker()).await;
    assert_eq!(fixture.lease(&worker(), 1).await.len(), 0);
    fixture.expire(fixture.keys.leased()).await;
    fixture.sweep().await;
    // The lost attempt is to run again later; the other one gets the place now.
    assert_eq!(ids(&fixture.lease(&worker(), 1).await), [next], "{dead:?}");
}

#[tokio::test]
async fn a_rate_lets_a_burst_go_and_says_when_the_next_one_may() {
    let hour = Rate { limit: 2, per_ms: 3_600_000 };
    let fixture = Fixture::limited(Limits { rate: Some(hour), ..NONE }).await;
    for _ in 0..4 {
        fixture.job().await;
    }
    let first = fixture.step(&worker(), Step { want: 10, ..Step::default() }).await;
    let half_an_hour = Duration::from_mins(29)..=Duration::from_mins(30);
    assert_eq!((first.leased.len(), first.more), (2, false));
    assert!(first.again_after.is_some_and(|after| half_an_hour.contains(&after)), "{:?}", first.again_after);
    let none = fixture.step(&worker(), Step { want: 10, ..Step::default() }).await;
    assert_eq!(none.leased.len(), 0);
    assert!(none.again_after.is_some_and(|after| half_an_hour.contains(&after)), "{:?}", none.again_after);
    set_limits(&fixture.ctx, &fixture.queue, &NONE).await.unwrap();
    let rest = fixture.step(&worker(), Step { want: 10, ..Step::default() }).await;
    assert_eq!((rest.leased.len(), rest.again_after), (2, None), "a limit that is lifted limits no more");
}

#[tokio::test]
async fn an_empty_queue_with_a_rate_calls_nobody_back() {
    let fixture = Fixture::limited(Limits { concurrency: Some(2), rate: Some(Rate { limit: 1, per_ms: 1_000 }), ..NONE }).await;
    let stepped = fixture.step(&worker(), Step { want: 48, ..Step::default() }).await;
    assert_eq!((stepped.more, stepped.again_after), (false, None));
}

#[tokio::test]
async fn a_queue_with_a_limit_is_not_held_up_by_what_was_purged() {
    let fixture = Fixture::limited(Limits { concurrency: Some(1), ..NONE }).await;
    // More than one call looks at.
    for _ in 0..9 {
        let purged = fixture.job().await.id;
        fixture.forget(purged).await;
    }
    let left = fixture.job().await.id;
    let first = fixture.step(&worker(), Step { want: 10, ..Step::default() }).await;
    assert_eq!((ids(&first.leased), first.more, first.again_after), (vec![], true, None), "it asks again at once");
    let second = fixture.step(&worker(), Step { want: 10, ..Step::default() }).await;
    assert_eq!((ids(&second.leased), second.more), (vec![left], false));
}

#[tokio::test]
async fn jobs_of_one_key_run_one_after_the_other_in_order() {
    let fixture = Fixture::new().await;
    let (a1, a2) = (fixture.keyed("a").await, fixture.keyed("a").await);
    let (b1, free) = (fixture.keyed("b").await, fixture.job().await.id);
    let holder = worker();
    let first = fixture.lease(&holder, 10).await;
    assert_eq!(ids(&first), [a1, b1, free], "the second of a key waits, and nobody waits with it");
    let a3 = fixture.keyed("a").await;
    assert_eq!(fixture.lease(&holder, 10).await.len(), 0);
    fixture.end_all(&holder, &first[1..]).await;
    assert_eq!(fixture.lease(&holder, 10).await.len(), 0, "others' slots are not theirs");
    fixture.end_all(&holder, &first[..1]).await;
    let second = fixture.lease(&holder, 10).await;
    assert_eq!(ids(&second), [a2]);
    fixture.end_all(&holder, &second).await;
    assert_eq!(ids(&fixture.lease(&holder, 10).await), [a3]);
}

#[tokio::test]
async fn raised_slots_and_cancelled_waiters_strand_nobody() {
    let fixture = Fixture::new().await;
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(fixture.keyed("a").await);
    }
    let holder = worker();
    assert_eq!(ids(&fixture.lease(&holder, 10).await), jobs[..1]);
    sqlx::query("UPDATE jobs SET cancel_requested_at = now() WHERE id = $1").bind(jobs[1].0).execute(&fixture.ctx.pg).await.unwrap();
    crate::jobs::engine::cancel(&fixture.ctx, &fixture.queue, jobs[1]).await.unwrap();
    set_limits(&fixture.ctx, &fixture.queue, &Limits { per_key: Some(3), ..NONE }).await.unwrap();
    let mut found = Vec::new();
    for _ in 0..3 {
        fixture.expire(&fixture.ctx.keys.queue(fixture.queue.as_str(), "blocked")).await;
        fixture.sweep().await;
        found.extend(ids(&fixture.lease(&holder, 10).await));
    }
    assert_eq!(found, jobs[2..]);
}

#[tokio::test]
async fn purged_waiters_do_not_hold_up_the_others_of_their_key() {
    let fixture = Fixture::new().await;
    let first = fixture.keyed("a").await;
    let mut waiters = Vec::new();
    for _ in 0..4 {
        waiters.push(fixture.keyed("a").await);
    }
    let holder = worker();
    let leased = fixture.lease(&holder, 10).await;
    assert_eq!(ids(&leased), [first]);
    for purged in &waiters[..3] {
        fixture.forget(*purged).await;
    }
    fixture.end_all(&holder, &leased).await;
    assert_eq!(ids(&fixture.lease(&holder, 10).await), waiters[3..]);
}

#[tokio::test]
async fn a_crowd_of_purged_waiters_is_dropped_by_and_by() {
    let fixture = Fixture::new().await;
    fixture.keyed("a").await;
    let holder = worker();
    let leased = fixture.lease(&holder, 10).await;
    let last = fixture.keyed("a").await;
    assert!(fixture.lease(&holder, 10).await.is_empty());
    let mut zadd = redis::cmd("ZADD");
    zadd.arg(&fixture.keys.waiting_for_slots()[0]);
    for n in 0..1_200 {
        // Before the living one.
        zadd.arg(0).arg(format!("a\0{n:08}"));
    }
    zadd.exec_async(&mut fixture.connection.clone()).await.unwrap();
    fixture.end_all(&holder, &leased).await;
    assert!(fixture.lease(&holder, 10).await.is_empty(), "one call drops so many only");
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    let found = loop {
        fixture.sweep().await;
        let found = ids(&fixture.lease(&holder, 10).await);
        if !found.is_empty() {
            break found;
        }
        assert!(std::time::Instant::now() < deadline, "the living one gets its slot");
    };
    assert_eq!(found, [last]);
}

#[tokio::test]
async fn after_a_loss_of_redis_jobs_with_a_key_wait_one_lease() {
    let fixture = Fixture::new().await;
    fixture.keyed("a").await;
    let plain = fixture.job().await.id;
    fixture.empty_redis().await;
    fixture.ctx.clock.advance(time::Duration::hours(1));
    let created_at = fixture.ctx.clock.now() - time::Duration::hours(1);
    let row = QueueRow { name: fixture.queue.clone(), is_paused: false, is_remote: false, limits: NONE, created_at };
    crate::jobs::engine::reconcile::restore(&fixture.ctx, &row).await.unwrap();
    crate::jobs::engine::reconcile::rebuild(&fixture.ctx, &fixture.queue).await.unwrap();
    assert_eq!(ids(&fixture.lease(&worker(), 10).await), [plain], "its key may still be at work elsewhere");
    redis::cmd("HDEL").arg(fixture.keys.cfg()).arg("keyed_from").exec_async(&mut fixture.connection.clone()).await.unwrap();
    fixture.expire(fixture.keys.delayed()).await;
    fixture.sweep().await;
    assert_eq!(fixture.lease(&worker(), 10).await.len(), 1, "once that must be over, it runs");
}

/// What may happen to a queue with limits.
#[derive(Debug, Clone)]
enum Event {
    Submit(Option<u8>),
    Lease(usize),
    /// Ends, or has to be run again, what was leased first.
    Finish {
        is_retried: bool,
    },
    Sweep,
    Die,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => prop::option::of(0u8..3).prop_map(Event::Submit),
        4 => (1usize..6).prop_map(Event::Lease),
        3 => any::<bool>().prop_map(|is_retried| Event::Finish { is_retried }),
        1 => Just(Event::Sweep),
        1 => Just(Event::Die),
    ];
    prop::collection::vec(event, 1..60)
}

/// Plays `events` and then works the queue off; every job runs in the end, and no limit is ever broken.
async fn play(events: Vec<Event>, limits: Limits) {
    let fixture = Fixture::limited(limits).await;
    let template = fixture.row().await;
    let mut keys: HashMap<JobId, Option<u8>> = HashMap::new();
    let mut held: Vec<(Holder, Leased)> = Vec::new();
    let mut to_do = 0;
    let work_off = (0..400).flat_map(|_| [Event::Sweep, Event::Lease(5), Event::Finish { is_retried: false }]);
    let n_events = events.len();
    for (at, event) in events.into_iter().chain(work_off).enumerate() {
        if at >= n_events && to_do == 0 {
            break;
        }
        match event {
            Event::Submit(key) => {
                let job = Enqueue { id: JobId::new(), concurrency_key: key.map(|key| format!("key {key}")), ..template.clone() };
                fixture.enqueue(&job).await;
                keys.insert(job.id, key);
                to_do += 1;
            }
            Event::Lease(want) => {
                let holder = worker();
                held.extend(fixture.lease(&holder, want).await.into_iter().map(|leased| (holder.clone(), leased)));
            }
            Event::Finish { .. } if held.is_empty() => {}
            Event::Finish { is_retried } => {
                let (holder, leased) = held.remove(0);
                let run_at = fixture.ctx.clock.now() - Duration::from_secs(1);
                let action = if is_retried { Action::Requeue { run_at } } else { Action::End { state: "succeeded" } };
                to_do -= usize::from(!is_retried);
                fixture.finish(&holder, Finish { token: token_of(&holder, &leased), action, standing: leased.standing }).await;
            }
            Event::Sweep => {
                fixture.expire(&fixture.ctx.keys.queue(fixture.queue.as_str(), "blocked")).await;
                scripts::sweep(&mut fixture.connection.clone(), &fixture.keys, 100).await.unwrap();
            }
            Event::Die => {
                // Its leases expire, and the leader hands them back.
                fixture.expire(fixture.keys.leased()).await;
                let back = held.drain(..).map(|(holder, leased)| Finish {
                    token: token_of(&holder, &leased),
                    action: Action::Return,
                    standing: leased.standing,
                });
                fixture.step(&worker(), Step { finish: back.collect(), ..Step::default() }).await;
            }
        }
        let mut per_key: HashMap<u8, usize> = HashMap::new();
        for key in held.iter().filter_map(|(_, leased)| keys[&leased.id]) {
            *per_key.entry(key).or_default() += 1;
        }
        let max = |limit: Option<i32>| limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap());
        assert!(held.len() <= max(limits.concurrency), "{} are leased at once", held.len());
        assert!(per_key.values().all(|n| *n <= max(limits.per_key.or(Some(1)))), "{per_key:?}");
    }
    assert_eq!((to_do, held.len()), (0, 0), "every job runs in the end");
}

proptest! {
    // Each case plays hundreds of calls: a few by default, more with PROPTEST_CASES.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 50, ..ProptestConfig::default() })]
    #[test]
    fn no_limit_is_broken_and_every_job_runs_in_the_end(
        events in events(),
        concurrency in prop::option::of(1i32..4),
        per_key in prop::option::of(1i32..3),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(events, Limits { concurrency, per_key, rate: None }));
    }
}
