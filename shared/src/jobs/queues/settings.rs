//! What is set for a queue: the row, its changes, and the copy that submits read.

use super::Rate;
use crate::{
    Caller, Code, Context, Error, Result,
    breaker::Breaker,
    ids::UserId,
    jobs::{QueueName, RetryPolicy, engine::Limits, store},
    json_fields,
};
use quick_cache::sync::Cache;
use serde::Deserialize;
use sqlx::PgConnection;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use utoipa::ToSchema;
use validator::Validate;

/// How old a copy may get before the next submit reads the row anew.
const FRESH: Duration = Duration::from_secs(1);

/// A row of `queues`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct QueueSettings {
    pub name: String,
    pub paused: bool,
    /// Whether workers outside this platform may lease from it, and so whether it takes kinds that we do not run.
    pub remote: bool,
    pub durability: Durability,
    pub max_depth: Option<i32>,
    pub concurrency: Option<i32>,
    pub rate_limit: Option<i32>,
    pub rate_per_ms: Option<i32>,
    pub per_key_concurrency: Option<i32>,
    /// `None` is JOB_RETENTION_DAYS.
    pub succeeded_retention_s: Option<i32>,
    pub dead_retention_s: i32,
    pub retry_max_attempts: i32,
    pub retry_base_ms: i32,
    pub retry_max_ms: i32,
}

impl QueueSettings {
    pub fn default_retry(&self) -> RetryPolicy {
        RetryPolicy { max_attempts: self.retry_max_attempts, base_ms: self.retry_base_ms, max_ms: self.retry_max_ms }
    }

    pub(super) fn rate(&self) -> Option<Rate> {
        self.rate_limit.zip(self.rate_per_ms).map(|(limit, per_ms)| Rate { limit, per_ms })
    }

    /// What the scripts hold its jobs back for.
    pub(super) fn limits(&self) -> Limits {
        Limits { concurrency: self.concurrency, rate: self.rate(), per_key: self.per_key_concurrency }
    }
}

/// Settings of a queue to change; what is absent stays as it is.
#[derive(Debug, Clone, Default, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"limits": {"max_depth": 100_000}, "default_retry": {"max_attempts": 10, "base_ms": 1_000, "max_ms": 600_000}}))]
pub struct PatchQueue {
    /// Whether remote workers may lease from it.
    pub remote: Option<bool>,
    /// Changes only while the queue has no jobs to do.
    pub durability: Option<Durability>,
    /// Replaces all limits: one that is absent in it is lifted.
    #[serde(default, deserialize_with = "json_fields::object")]
    #[validate(nested)]
    pub limits: Option<PatchLimits>,
    #[serde(default, deserialize_with = "json_fields::object")]
    #[validate(nested)]
    pub retention: Option<PatchRetention>,
    #[serde(default, deserialize_with = "json_fields::object")]
    #[validate(nested)]
    pub default_retry: Option<PatchRetry>,
}

/// Where an accepted job is kept first.
///
/// `postgres` keeps every promise. `redis` is quicker to accept, and holds a job in Redis alone until it ends: what Redis loses
/// is lost (up to two seconds of changes when it crashes, all when it is emptied), and a submit is refused while it is away.
/// Until they end, such jobs are found by their id, and in no list; `unique` is not supported for them. Of a dead one that is
/// requeued PostgreSQL takes care from then on. An Idempotency-Key is stored after Redis took the job: an API that is killed between
/// the two leaves a job that a repeat makes once more. Switch it on when every process runs a release that knows it; it is felt
/// everywhere a second or two later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Durability {
    Postgres,
    Redis,
}

#[derive(Debug, Clone, Default, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchLimits {
    /// Jobs that may be waiting or running; more are refused with 429.
    #[serde(default, deserialize_with = "json_fields::whole")]
    #[validate(range(min = 0, max = 100_000_000))]
    #[schema(minimum = 0, maximum = 100_000_000)]
    pub max_depth: Option<i64>,
    /// Jobs that are leased at once, over all workers.
    #[serde(default, deserialize_with = "json_fields::whole")]
    #[validate(range(min = 1, max = 1_000_000))]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub concurrency: Option<i64>,
    /// Jobs that start per time, on the average; after a pause, as many as `limit` at once.
    #[serde(default, deserialize_with = "json_fields::object")]
    #[validate(nested)]
    pub rate: Option<PatchRate>,
    /// Jobs of one `concurrency_key` that are leased at once; 1 when absent.
    #[serde(default, deserialize_with = "json_fields::whole")]
    #[validate(range(min = 1, max = 100))]
    #[schema(minimum = 1, maximum = 100)]
    pub per_key_concurrency: Option<i64>,
}

/// So many per unit of time.
#[derive(Debug, Clone, Copy, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchRate {
    #[validate(range(min = 1, max = 1_000_000))]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub limit: i32,
    /// A day at most.
    #[validate(range(min = 1, max = 86_400_000))]
    #[schema(minimum = 1, maximum = 86_400_000)]
    pub per_ms: i32,
}

#[derive(Debug, Clone, Default, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchRetention {
    /// Seconds that succeeded, cancelled and expired jobs are kept.
    #[serde(default, deserialize_with = "json_fields::whole")]
    #[validate(range(min = 0, max = 315_360_000))]
    #[schema(minimum = 0, maximum = 315_360_000)]
    pub succeeded_s: Option<i64>,
    /// Seconds that dead jobs are kept.
    #[serde(default, deserialize_with = "json_fields::whole")]
    #[validate(range(min = 0, max = 315_360_000))]
    #[schema(minimum = 0, maximum = 315_360_000)]
    pub dead_s: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchRetry {
    #[serde(default, deserialize_with = "json_fields::whole")]
    #[validate(range(min = 1, max = 100))]
    #[schema(minimum = 1, maximum = 100)]
    pub max_attempts: Option<i64>,
    #[serde(default, deserialize_with = "json_fields::whole")]
    #[validate(range(min = 1, max = 604_800_000))]
    #[schema(minimum = 1, maximum = 604_800_000)]
    pub base_ms: Option<i64>,
    #[serde(default, deserialize_with = "json_fields::whole")]
    #[validate(range(min = 1, max = 604_800_000))]
    #[schema(minimum = 1, maximum = 604_800_000)]
    pub max_ms: Option<i64>,
}

impl PatchQueue {
    pub(super) fn check(&self) -> Result<()> {
        Ok(self.validate()?)
    }

    pub(super) fn apply(&self, settings: &mut QueueSettings) -> Result<()> {
        settings.remote = self.remote.unwrap_or(settings.remote);
        settings.durability = self.durability.unwrap_or(settings.durability);
        if let Some(limits) = &self.limits {
            settings.max_depth = limits.max_depth.map(checked);
            settings.concurrency = limits.concurrency.map(checked);
            (settings.rate_limit, settings.rate_per_ms) = (limits.rate.map(|rate| rate.limit), limits.rate.map(|rate| rate.per_ms));
            settings.per_key_concurrency = limits.per_key_concurrency.map(checked);
        }
        if let Some(retention) = &self.retention {
            settings.succeeded_retention_s = retention.succeeded_s.map(checked).or(settings.succeeded_retention_s);
            settings.dead_retention_s = retention.dead_s.map_or(settings.dead_retention_s, checked);
        }
        if let Some(retry) = &self.default_retry {
            settings.retry_max_attempts = retry.max_attempts.map_or(settings.retry_max_attempts, checked);
            settings.retry_base_ms = retry.base_ms.map_or(settings.retry_base_ms, checked);
            settings.retry_max_ms = retry.max_ms.map_or(settings.retry_max_ms, checked);
        }
        if settings.retry_base_ms > settings.retry_max_ms {
            return Err(Error::invalid("/default_retry/base_ms", "range", "must not be more than `max_ms`"));
        }
        Ok(())
    }
}

fn checked(value: i64) -> i32 {
    i32::try_from(value).expect("checked to be in range")
}

/// Copies of the rows for submits, by name.
#[derive(Debug)]
pub(in crate::jobs) struct QueueCache(Cache<QueueName, Arc<Copy>>);

#[derive(Debug)]
struct Copy {
    settings: Arc<QueueSettings>,
    read_at: Instant,
    /// Whether a submit has gone to read the row anew.
    renewing: AtomicBool,
}

impl QueueCache {
    pub(in crate::jobs) fn new(queues_max: usize) -> Self {
        Self(Cache::new(queues_max))
    }

    pub(super) fn forget(&self, name: &QueueName) {
        self.0.remove(name);
    }

    fn keep(&self, name: &QueueName, settings: &Arc<QueueSettings>) {
        let copy = Copy { settings: Arc::clone(settings), read_at: Instant::now(), renewing: AtomicBool::new(false) };
        self.0.insert(name.clone(), Arc::new(copy));
    }

    /// While PostgreSQL is away the copy is as good as any.
    fn look(&self, name: &QueueName, pg: &Breaker) -> Look {
        let Some(copy) = self.0.get(name) else { return Look::Unknown };
        if copy.read_at.elapsed() > FRESH && !pg.is_open() && !copy.renewing.swap(true, Ordering::Relaxed) {
            return Look::Renew(Turn(copy));
        }
        Look::Good(Arc::clone(&copy.settings))
    }
}

/// What a submit finds of a queue.
enum Look {
    Good(Arc<QueueSettings>),
    /// It is this submit's turn to read the row anew; the others make do with the copy meanwhile.
    Renew(Turn),
    Unknown,
}

/// However the reading ends, the next submit may try again.
struct Turn(Arc<Copy>);

impl Turn {
    /// What to go by where the row could not be read: the copy, if there is one and nothing else is wrong than that PostgreSQL is away.
    fn or_copy(turn: Option<&Self>, error: Error) -> Result<Arc<QueueSettings>> {
        match turn {
            Some(turn) if error.code == Code::DatabaseUnavailable => Ok(Arc::clone(&turn.0.settings)),
            _ => Err(error),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.renewing.store(false, Ordering::Relaxed);
    }
}

/// The settings from memory, or over the connections of the process.
pub(super) async fn cached(ctx: &Context, name: &QueueName, creator: Creator) -> Result<Arc<QueueSettings>> {
    let turn = match ctx.jobs.queues.look(name, &ctx.pg_breaker) {
        Look::Good(settings) => return Ok(settings),
        Look::Renew(turn) => Some(turn),
        Look::Unknown => None,
    };
    // Boxed: what one submit does once a second should not make every submit larger.
    let read = Box::pin(read_anew(&ctx.for_process(), name, creator)).await;
    read.or_else(|error| Turn::or_copy(turn.as_ref(), error))
}

/// The same, of a queue that nobody is to make; `None` when there is none.
pub(super) async fn cached_if_there(ctx: &Context, name: &QueueName) -> Result<Option<Arc<QueueSettings>>> {
    let turn = match ctx.jobs.queues.look(name, &ctx.pg_breaker) {
        Look::Good(settings) => return Ok(Some(settings)),
        Look::Renew(turn) => Some(turn),
        Look::Unknown => None,
    };
    let read = Box::pin(read_if_there(&ctx.for_process(), name)).await;
    read.or_else(|error| Turn::or_copy(turn.as_ref(), error).map(Some))
}

async fn read_if_there(ctx: &Context, name: &QueueName) -> Result<Option<Arc<QueueSettings>>> {
    let Some(settings) = store::queues::queue_by_name(&ctx.pg, name.as_str()).await?.map(Arc::new) else {
        ctx.jobs.queues.forget(name);
        return Ok(None);
    };
    ctx.jobs.queues.keep(name, &settings);
    Ok(Some(settings))
}

async fn read_anew(ctx: &Context, name: &QueueName, creator: Creator) -> Result<Arc<QueueSettings>> {
    let settings = Arc::new(load_or_create(ctx, name, creator).await?);
    ctx.jobs.queues.keep(name, &settings);
    Ok(settings)
}

pub(super) async fn existing(ctx: &Context, name: &QueueName) -> Result<QueueSettings> {
    store::queues::queue_by_name(&ctx.pg, name.as_str()).await?.ok_or_else(|| Error::not_found("queue"))
}

/// Who brings a queue into being that nobody used yet.
#[derive(Debug, Clone, Copy)]
pub enum Creator {
    /// May make as many as there may be.
    Operator,
    /// May make `QUEUES_PER_USER_MAX`.
    User(UserId),
}

impl From<&Caller> for Creator {
    fn from(caller: &Caller) -> Self {
        if caller.sees_all() { Self::Operator } else { Self::User(caller.user_id) }
    }
}

async fn load_or_create(ctx: &Context, name: &QueueName, creator: Creator) -> Result<QueueSettings> {
    if let Some(settings) = store::queues::queue_by_name(&ctx.pg, name.as_str()).await? {
        return Ok(settings);
    }
    let mut tx = ctx.pg.begin().await?;
    create(ctx, &mut tx, name, creator).await?;
    tx.commit().await?;
    store::queues::queue_by_name(&ctx.pg, name.as_str()).await?.ok_or_else(|| too_many(ctx))
}

/// Makes a queue if there is room, in the caller's transaction; others that make one wait for its end.
pub(super) async fn create(ctx: &Context, tx: &mut PgConnection, name: &QueueName, creator: Creator) -> Result<()> {
    let created_by = match creator {
        Creator::Operator => None,
        Creator::User(id) => Some(id),
    };
    let (all, of_user) = (ctx.settings().queues_max, ctx.settings().queues_per_user_max);
    let limits = [all, of_user].map(|max| i64::try_from(max).unwrap_or(i64::MAX));
    store::queues::lock_creation(&mut *tx).await?;
    Ok(store::queues::create_queue(tx, name.as_str(), created_by, limits.into()).await?)
}

pub(super) fn too_many(ctx: &Context) -> Error {
    let (all, of_user) = (ctx.settings().queues_max, ctx.settings().queues_per_user_max);
    let detail = format!("there may be {all} queues, and one user who is no operator may bring {of_user} into being");
    Error::invalid("/queue", "too_many_queues", detail)
}
