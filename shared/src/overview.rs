//! How queues, PostgreSQL and Redis stand, for metrics. One process at a time looks, for all: what that costs does not grow with their
//! number, nor with how often they are scraped. The others tell what it saw.

use crate::{
    Context, Result,
    accounts::sessions,
    jobs::queues::figures,
    pg,
    points::depth,
    telemetry::{
        metrics::{SERVER_UP, SESSIONS},
        page::Page,
    },
};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Of one part of a look; what takes longer is told by its absence.
const PATIENCE: Duration = Duration::from_secs(3);
/// What was seen is told for so many times the pause between looks, in case one fails.
const KEPT_FOR: u32 = 3;

/// What was last seen; one per process.
#[derive(Debug, Default)]
pub struct Overview(Mutex<Option<Seen>>);

#[derive(Debug)]
struct Seen {
    page: String,
    until: Instant,
}

impl Overview {
    /// Adds what was seen lately, if anything was.
    pub fn tell(&self, page: &mut Page) {
        if let Some(seen) = self.lock().as_ref().filter(|seen| seen.until > Instant::now()) {
            page.append(&seen.page);
        }
    }

    /// Keeps it up to date for as long as it is polled, every `METRICS_LOOK_S`.
    pub async fn keep(&self, ctx: &Context) {
        let every = Duration::from_secs(ctx.settings().metrics_look_s);
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Some(page) = see(ctx, every).await {
                *self.lock() = Some(Seen { page, until: Instant::now() + KEPT_FOR * every });
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks if it is this process's turn, and else reads what another saw. While Redis is away each looks for itself.
async fn see(ctx: &Context, every: Duration) -> Option<String> {
    match take_turn(ctx, every).await {
        Ok(false) => read(ctx).await.ok().flatten(),
        Ok(true) | Err(_) => {
            let page = look(ctx).await;
            if let Err(error) = write(ctx, &page, KEPT_FOR * every).await {
                tracing::debug!(%error, "what was seen of the servers is not told to others");
            }
            Some(page)
        }
    }
}

/// One for all processes; somewhat shorter than the pause, so that it is free again when the next look is due.
async fn take_turn(ctx: &Context, every: Duration) -> Result<bool> {
    let mut cmd = redis::cmd("SET");
    cmd.arg(ctx.keys.overview_turn()).arg(1).arg("NX").arg("PX").arg(whole_ms(every * 9 / 10));
    let taken: Option<String> = cmd.query_async(&mut ctx.redis.connection()).await?;
    Ok(taken.is_some())
}

async fn read(ctx: &Context) -> Result<Option<String>> {
    Ok(redis::cmd("GET").arg(ctx.keys.overview()).query_async(&mut ctx.redis.connection()).await?)
}

async fn write(ctx: &Context, page: &str, kept_for: Duration) -> Result<()> {
    let mut cmd = redis::cmd("SET");
    cmd.arg(ctx.keys.overview()).arg(page).arg("PX").arg(whole_ms(kept_for));
    Ok(cmd.exec_async(&mut ctx.redis.connection()).await?)
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Asks everybody; of who does not answer, nothing is told but that.
pub async fn look(ctx: &Context) -> String {
    let postgres = within(async |page: &mut Page| pg::tell(&ctx.pg, page).await);
    let redis = within(async |page: &mut Page| ctx.redis.tell(page).await);
    let sessions = within(async |page: &mut Page| {
        page.single(SESSIONS, sessions::count_roughly(ctx).await?);
        Ok(())
    });
    let queues = within(async |page: &mut Page| figures::tell(ctx, page).await);
    let points = within(async |page: &mut Page| depth::tell(ctx, page).await);
    let (postgres, redis, sessions, queues, points) = tokio::join!(postgres, redis, sessions, queues, points);
    let mut page = Page::default();
    let up = |part: &Option<String>| f64::from(u8::from(part.is_some()));
    page.series(SERVER_UP, [(["postgres".to_owned()], up(&postgres)), (["redis".to_owned()], up(&redis))]);
    for part in [postgres, redis, sessions, queues, points].into_iter().flatten() {
        page.append(&part);
    }
    page.into_text()
}

/// One part of a look: all of it, or nothing.
async fn within(tell: impl AsyncFnOnce(&mut Page) -> Result<()>) -> Option<String> {
    let mut page = Page::default();
    match timeout(PATIENCE, tell(&mut page)).await {
        Ok(Ok(())) => Some(page.into_text()),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a part of the servers' metrics is missing");
            None
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestStores;

    #[tokio::test]
    async fn one_process_looks_for_all_and_the_others_tell_the_same() {
        let stores = TestStores::create().await;
        let (first, second) = (stores.context(&[]), stores.context(&[]));
        let every = Duration::from_secs(60);
        let seen = see(&first, every).await.unwrap();
        assert!(seen.contains("server_up{server=\"postgres\"} 1\nserver_up{server=\"redis\"} 1\n"), "{seen}");
        for name in
            ["postgres_connections{state=\"active\"}", "redis_memory_used_bytes{node=\"", "account_sessions 0", "ingest_depth_points 0"]
        {
            assert!(seen.contains(name), "{name} is missing: {seen}");
        }
        assert_eq!(see(&second, every).await.unwrap(), seen, "what the first saw");
    }

    #[tokio::test]
    async fn without_redis_each_tells_what_postgres_says() {
        let stores = TestStores::create().await;
        let ctx = stores.context(&[("REDIS_URL", "redis://127.0.0.1:1")]);
        let seen = see(&ctx, Duration::from_secs(60)).await.unwrap();
        assert!(seen.contains("server_up{server=\"redis\"} 0\n") && seen.contains("postgres_database_bytes "), "{seen}");
        assert!(!seen.contains("job_workers"), "{seen}");
    }
}
