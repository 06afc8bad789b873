//! A queue as callers see it: its settings, and how it stands.

use super::settings::{Durability, QueueSettings};
use crate::{
    Context, Result,
    jobs::{
        QueueName, RetryPolicy, race,
        store::{self, queues::Counts},
    },
};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

/// Rows counted at most for one figure; of a deeper queue the figures are Redis', and that of dead jobs is this.
const COUNT_MAX: i64 = 10_000;
/// Queues of one page that Redis is asked for at the same time: their questions share its connection.
pub(super) const ASKED_AT_ONCE: usize = 16;

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Queue {
    pub name: QueueName,
    /// Whether leasing from it is stopped.
    pub paused: bool,
    pub remote: bool,
    pub durability: Durability,
    pub limits: QueueLimits,
    pub retention: QueueRetention,
    pub default_retry: RetryPolicy,
    pub stats: QueueStats,
    /// As stored: what a change can name.
    #[serde(skip)]
    pub settings: QueueSettings,
}

/// `null` is no limit.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct QueueLimits {
    #[schema(required)]
    pub max_depth: Option<i32>,
    #[schema(required)]
    pub concurrency: Option<i32>,
    #[schema(required)]
    pub rate: Option<Rate>,
    #[schema(required)]
    pub per_key_concurrency: Option<i32>,
}

/// So many per unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Rate {
    pub limit: i32,
    pub per_ms: i32,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct QueueRetention {
    /// Seconds that succeeded, cancelled and expired jobs are kept.
    pub succeeded_s: i64,
    pub dead_s: i64,
}

/// How a queue stands. `dead` stops at 10,000, and so does `retrying` in a queue that is deeper; `null` is not known at the moment.
/// In a queue with `durability: "redis"`, `scheduled` counts those that are retrying as well, and `oldest_ready_age_ms` is `null`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct QueueStats {
    pub queued: u64,
    pub scheduled: u64,
    pub running: u64,
    pub retrying: u64,
    pub dead: u64,
    /// How long the job that has waited longest has been due.
    #[schema(required)]
    pub oldest_ready_age_ms: Option<u64>,
    /// Jobs that were submitted or requeued, over the last ten seconds.
    #[schema(required)]
    pub in_per_s: Option<f64>,
    /// Jobs that ended, over the last ten seconds.
    #[schema(required)]
    pub out_per_s: Option<f64>,
    /// From the time a job was due to its start, over the last minute or two; at most a fifth too high.
    #[schema(required)]
    pub pickup_p50_ms: Option<f64>,
    #[schema(required)]
    pub pickup_p99_ms: Option<f64>,
    /// When a job last ended, to the second.
    #[schema(required)]
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_processed_at: Option<OffsetDateTime>,
    /// Since when jobs are ready, a worker has room, and none is leased; `null` while all is well.
    #[schema(required)]
    #[serde(with = "time::serde::rfc3339::option")]
    pub stalled_since: Option<OffsetDateTime>,
}

pub(super) async fn queue(ctx: &Context, settings: QueueSettings) -> Result<Queue> {
    let counts = store::queues::counts(&ctx.pg, &[&settings.name], ctx.clock.now(), COUNT_MAX).await?;
    counted(ctx, settings, counts.first().copied().unwrap_or_default()).await
}

/// Queues in the order of `settings`. PostgreSQL counts in one statement; what Redis knows is asked for one queue at a time, but
/// of several at once.
pub(super) async fn queues(ctx: &Context, settings: Vec<QueueSettings>) -> Result<Vec<Queue>> {
    let names = settings.iter().map(|settings| settings.name.as_str()).collect::<Vec<_>>();
    let counts = store::queues::counts(&ctx.pg, &names, ctx.clock.now(), COUNT_MAX).await?;
    let queues = settings.into_iter().zip(counts).map(|(settings, counts)| counted(ctx, settings, counts));
    stream::iter(queues).buffered(ASKED_AT_ONCE).try_collect().await
}

async fn counted(ctx: &Context, settings: QueueSettings, counts: Counts) -> Result<Queue> {
    let name = QueueName::new(&settings.name)?;
    let succeeded_s = settings.succeeded_retention_s.map_or(i64::from(ctx.settings().job_retention_days) * 86_400, i64::from);
    Ok(Queue {
        stats: stats(ctx, &name, settings.durability, counts).await,
        paused: settings.paused,
        remote: settings.remote,
        durability: settings.durability,
        limits: QueueLimits {
            max_depth: settings.max_depth,
            concurrency: settings.concurrency,
            rate: settings.rate(),
            per_key_concurrency: settings.per_key_concurrency,
        },
        retention: QueueRetention { succeeded_s, dead_s: i64::from(settings.dead_retention_s) },
        default_retry: settings.default_retry(),
        name,
        settings,
    })
}

async fn stats(ctx: &Context, name: &QueueName, durability: Durability, Counts { live, dead }: Counts) -> QueueStats {
    let now = ctx.clock.now();
    let (depths, oldest, rates, stalled_since) =
        tokio::join!(race::depths(ctx, name), race::oldest_ready(ctx, name), race::rates(ctx, name), race::stalled_since(ctx, name));
    let running = depths.as_ref().map_or(0, |depths| depths.running);
    // PostgreSQL does not know volatile jobs.
    let by_redis = durability == Durability::Redis || live.due + live.scheduled + live.retrying >= COUNT_MAX;
    QueueStats {
        queued: match &depths {
            Some(depths) if by_redis => depths.queued,
            // PostgreSQL knows running jobs as due ones.
            Some(_) | None => count(live.due).saturating_sub(running),
        },
        scheduled: match &depths {
            Some(depths) if by_redis => depths.scheduled.saturating_sub(count(live.retrying)),
            Some(_) | None => count(live.scheduled),
        },
        running,
        retrying: count(live.retrying),
        dead: count(dead),
        oldest_ready_age_ms: oldest.and_then(|run_at| u64::try_from((now - run_at).whole_milliseconds()).ok()),
        in_per_s: rates.in_per_s,
        out_per_s: rates.out_per_s,
        pickup_p50_ms: rates.pickup_p50_ms,
        pickup_p99_ms: rates.pickup_p99_ms,
        last_processed_at: rates.last_processed_at,
        stalled_since,
    }
}

fn count(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or(0)
}
