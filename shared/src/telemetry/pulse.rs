//! How a thread of ours feels: how late its timers fire, how long its pool of PostgreSQL connections makes callers wait, and how long Redis
//! takes to answer behind everything else that was asked over its connection. Tried now and then, so that it is known before callers complain.

use super::metrics::{DB_ACQUIRE, DB_POOL_MAX, DB_POOL_SIZE, REDIS_WAIT, RUNTIME_LAG};
use crate::Context;
use metrics::Gauge;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// Four looks a second cost nothing that can be measured, and meet whatever blocks a thread for longer.
const LAG_EVERY: Duration = Duration::from_millis(250);
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// Measures for as long as it is polled; `thread` is the name of the threads that poll it.
pub async fn keep(ctx: &Context, thread: &str) {
    tokio::join!(time_threads(thread), watch_pool(ctx), ask_redis(ctx));
}

async fn time_threads(thread: &str) {
    let lag = metrics::histogram!(RUNTIME_LAG, "thread" => thread.to_owned());
    loop {
        let due = Instant::now() + LAG_EVERY;
        sleep_until(due).await;
        lag.record(due.elapsed());
    }
}

/// Of the pools of one process, each adds its own part to what is told of all.
struct Part {
    gauge: Gauge,
    told: f64,
}

impl Part {
    fn new(gauge: Gauge) -> Self {
        Self { gauge, told: 0.0 }
    }

    fn set(&mut self, value: f64) {
        self.gauge.increment(value - self.told);
        self.told = value;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.set(0.0);
    }
}

async fn watch_pool(ctx: &Context) {
    let waits = metrics::histogram!(DB_ACQUIRE);
    let (mut max, mut idle, mut used) = (
        Part::new(metrics::gauge!(DB_POOL_MAX)),
        Part::new(metrics::gauge!(DB_POOL_SIZE, "state" => "idle")),
        Part::new(metrics::gauge!(DB_POOL_SIZE, "state" => "used")),
    );
    max.set(f64::from(ctx.pg.options().get_max_connections()));
    let mut ticks = interval(PROBE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (n_open, n_idle) = (ctx.pg.size(), u32::try_from(ctx.pg.num_idle()).unwrap_or(u32::MAX));
        idle.set(f64::from(n_idle));
        used.set(f64::from(n_open.saturating_sub(n_idle)));
        if n_open == 0 {
            // What needs no connection is not to get one for being asked.
            continue;
        }
        let began = Instant::now();
        // Waiting in vain took as long as it took.
        drop(ctx.pg.acquire().await);
        waits.record(began.elapsed());
    }
}

async fn ask_redis(ctx: &Context) {
    let waits = metrics::histogram!(REDIS_WAIT);
    let mut ticks = interval(PROBE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let began = Instant::now();
        // What is refused is refused at once: only an answer tells how long answers take.
        if ctx.redis.ping().await.is_ok() {
            waits.record(began.elapsed());
        }
    }
}
