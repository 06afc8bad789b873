//! Workers as they report themselves: each child process writes its own field of its worker's hash, readers put them together.
//!
//! Nothing here decides anything: leases tell who may run what. A worker that stops reporting is shown as lost for a while.

use super::{
    Progress,
    worker_orders::{ORDERS_MAX, WorkerOrder},
};
use crate::{
    Caller, Context, Error, Result, Scope,
    clock::{from_unix_ms, unix_ms},
    ids::{JobId, WorkerId},
    page::{Page, PageRequest},
};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, time::Duration};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

/// Silence after which a worker counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(45);
/// How long a silent worker is still shown.
const SHOWN_FOR: Duration = Duration::from_mins(10);
/// Workers looked at most.
const WORKERS_MAX: isize = 10_000;

const INSTANCE_FIELD: &str = "instance";
const CHILD_FIELD: &str = "child:";
/// When a remote worker last asked for anything, in milliseconds since 1970.
pub(super) const HEARD_FIELD: &str = "heard";

/// What does not change while a worker runs, and what it is doing as a whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerInstance {
    pub id: WorkerId,
    #[serde(default)]
    pub kind: WorkerKind,
    pub name: String,
    pub host: String,
    pub pid: u32,
    pub version: String,
    /// Empty: all queues.
    pub queues: Vec<String>,
    pub concurrency: usize,
    pub prefetch: usize,
    pub state: WorkerState,
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// Absent from a worker of the release before, whose children alone report.
    #[serde(with = "time::serde::rfc3339::option", default)]
    pub heartbeat_at: Option<OffsetDateTime>,
    /// Deliveries that succeeded in children that are gone, and those that ended otherwise there.
    #[serde(default)]
    pub tasks_done: u64,
    #[serde(default)]
    pub tasks_failed: u64,
}

/// What one child says of itself with each heartbeat.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChildReport {
    pub pid: u32,
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub heartbeat_at: OffsetDateTime,
    pub tasks_done: u64,
    pub tasks_failed: u64,
    pub rss_kb: u64,
    pub active: Vec<ActiveJob>,
    pub reserved: Vec<ReservedJob>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    Running,
    /// Leases nothing more until told otherwise.
    Quiet,
    /// Finishes what runs, then ends.
    Draining,
    /// Has not been heard of for a while.
    Lost,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WorkerKind {
    /// One of ours.
    #[default]
    Process,
    /// A program that leases over HTTP; it has no children, no host and no pid here.
    Remote,
}

/// A process that runs jobs, with its children.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Worker {
    pub id: WorkerId,
    pub name: String,
    pub host: String,
    pub pid: u32,
    pub version: String,
    pub kind: WorkerKind,
    pub queues: Vec<String>,
    pub concurrency: usize,
    pub prefetch: usize,
    pub state: WorkerState,
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub heartbeat_at: OffsetDateTime,
    pub children: Vec<WorkerChild>,
    pub counts: WorkerCounts,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WorkerChild {
    pub pid: u32,
    pub tasks_done: u64,
    pub rss_kb: u64,
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
}

#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub struct WorkerCounts {
    /// Running now.
    pub active: usize,
    /// Leased, not started.
    pub reserved: usize,
    /// Succeeded since the worker started.
    pub done: u64,
    pub failed: u64,
}

/// A worker and what it holds.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WorkerDetail {
    #[serde(flatten)]
    pub worker: Worker,
    pub active: Vec<ActiveJob>,
    pub reserved: Vec<ReservedJob>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ActiveJob {
    pub job_id: JobId,
    #[schema(example = "debug.sleep")]
    pub kind: String,
    pub attempt: i32,
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    #[schema(required)]
    pub progress: Option<Progress>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReservedJob {
    pub job_id: JobId,
}

/// Writes a remote worker's heartbeat: it is its own only child.
pub(super) async fn report_remote(ctx: &Context, instance: &WorkerInstance, report: &ChildReport) -> Result<()> {
    let (id, now_ms) = (instance.id.to_string(), unix_ms(report.heartbeat_at));
    let key = ctx.keys.worker(&id);
    let mut pipe = redis::pipe();
    pipe.hset(&key, INSTANCE_FIELD, json(instance)?).ignore();
    pipe.hset(&key, format!("{CHILD_FIELD}{}", report.pid), json(report)?).ignore();
    pipe.pexpire(&key, millis(SHOWN_FOR)).ignore();
    pipe.zadd(ctx.keys.workers(), id, now_ms).ignore();
    pipe.zrembyscore(ctx.keys.workers(), "-inf", now_ms - millis(SHOWN_FOR)).ignore();
    Ok(pipe.exec_async(&mut ctx.redis.connection()).await?)
}

/// Writes a worker's heartbeat, and takes what it was told meanwhile; one round trip.
pub async fn report(ctx: &Context, instance: &WorkerInstance) -> Result<Vec<WorkerOrder>> {
    let id = instance.id.to_string();
    let (key, orders) = (ctx.keys.worker(&id), ctx.keys.worker_orders(&id));
    let (now_ms, shown_ms) = (unix_ms(ctx.clock.now()), millis(SHOWN_FOR));
    let mut pipe = redis::pipe();
    pipe.hset(&key, INSTANCE_FIELD, json(instance)?).ignore();
    pipe.pexpire(&key, shown_ms).ignore();
    pipe.zadd(ctx.keys.workers(), id, now_ms).ignore();
    pipe.zrembyscore(ctx.keys.workers(), "-inf", now_ms - shown_ms).ignore();
    pipe.cmd("LPOP").arg(orders).arg(ORDERS_MAX);
    let (told,): (Option<Vec<String>>,) = pipe.query_async(&mut ctx.redis.connection()).await?;
    Ok(told.unwrap_or_default().iter().filter_map(|text| WorkerOrder::parse(text)).collect())
}

/// Writes a child's heartbeat.
pub async fn report_child(ctx: &Context, id: WorkerId, child: &ChildReport) -> Result<()> {
    let key = ctx.keys.worker(&id.to_string());
    let mut pipe = redis::pipe();
    pipe.hset(&key, format!("{CHILD_FIELD}{}", child.pid), json(child)?).ignore();
    pipe.pexpire(&key, millis(SHOWN_FOR)).ignore();
    Ok(pipe.exec_async(&mut ctx.redis.connection()).await?)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).expect("minutes are few milliseconds")
}

/// Takes a child that ended off its worker.
pub async fn forget_child(ctx: &Context, id: WorkerId, pid: u32) -> Result<()> {
    let mut cmd = redis::cmd("HDEL");
    cmd.arg(ctx.keys.worker(&id.to_string())).arg(format!("{CHILD_FIELD}{pid}"));
    Ok(cmd.exec_async(&mut ctx.redis.connection()).await?)
}

/// Takes a worker that ended in order off the list.
pub async fn forget(ctx: &Context, id: WorkerId) -> Result<()> {
    let mut pipe = redis::pipe();
    pipe.del(ctx.keys.worker(&id.to_string())).ignore();
    pipe.del(ctx.keys.worker_orders(&id.to_string())).ignore();
    pipe.zrem(ctx.keys.workers(), id.to_string()).ignore();
    Ok(pipe.exec_async(&mut ctx.redis.connection()).await?)
}

/// The workers that were heard of lately, the youngest first.
pub async fn list(ctx: &Context, caller: &Caller, request: &PageRequest<Uuid>) -> Result<Page<Worker>> {
    caller.require(Scope::Workers)?;
    let mut ids: Vec<Uuid> = heard_of(ctx).await?;
    ids.retain(|id| request.before.is_none_or(|before| *id < before));
    ids.sort_unstable_by(|a, b| b.cmp(a));
    ids.truncate(usize::try_from(request.fetch()).expect("a page is at most 1001 items"));
    let mut workers = Vec::with_capacity(ids.len());
    for detail in read(ctx, &ids).await? {
        workers.push(detail.worker);
    }
    Ok(Page::from_rows(workers, request, |worker| worker.id.0))
}

pub async fn get(ctx: &Context, caller: &Caller, id: WorkerId) -> Result<WorkerDetail> {
    caller.require(Scope::Workers)?;
    read(ctx, &[id.0]).await?.pop().ok_or_else(|| Error::not_found("worker"))
}

/// Workers of our own that are there, and the jobs that they run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instances {
    pub processes: usize,
    pub slots: usize,
}

pub async fn instances(ctx: &Context) -> Result<Instances> {
    let is_there = |worker: &&Worker| worker.kind == WorkerKind::Process && worker.state != WorkerState::Lost;
    let workers = alive(ctx).await?;
    let slots = workers.iter().filter(is_there).map(|worker| worker.concurrency);
    Ok(Instances { processes: slots.clone().count(), slots: slots.sum() })
}

/// The workers that were heard of lately, for the platform's own use.
pub(super) async fn alive(ctx: &Context) -> Result<Vec<Worker>> {
    let ids = heard_of(ctx).await?;
    Ok(read(ctx, &ids).await?.into_iter().map(|detail| detail.worker).collect())
}

async fn heard_of(ctx: &Context) -> Result<Vec<Uuid>> {
    let mut cmd = redis::cmd("ZREVRANGE");
    cmd.arg(ctx.keys.workers()).arg(0).arg(WORKERS_MAX - 1);
    let ids: Vec<String> = cmd.query_async(&mut ctx.redis.connection()).await?;
    Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
}

/// The workers of `ids` that still are in Redis.
async fn read(ctx: &Context, ids: &[Uuid]) -> Result<Vec<WorkerDetail>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut pipe = redis::pipe();
    for id in ids {
        pipe.hgetall(ctx.keys.worker(&id.to_string()));
    }
    let hashes: Vec<HashMap<String, String>> = pipe.query_async(&mut ctx.redis.connection()).await?;
    let now = ctx.clock.now();
    Ok(hashes.iter().filter_map(|hash| detail(hash, now)).collect())
}

/// `None` for a hash that expired meanwhile, or that a newer release wrote in a form unknown to this one.
fn detail(hash: &HashMap<String, String>, now: OffsetDateTime) -> Option<WorkerDetail> {
    let instance: WorkerInstance = serde_json::from_str(hash.get(INSTANCE_FIELD)?).ok()?;
    let is_child = |(field, _): &(&String, &String)| field.starts_with(CHILD_FIELD);
    let reports = hash.iter().filter(is_child).filter_map(|(_, text)| serde_json::from_str(text).ok());
    let mut reports: Vec<ChildReport> = reports.collect();
    let heard_at = hash.get(HEARD_FIELD).and_then(|ms| from_unix_ms(ms.parse().ok()?));
    let heartbeats = reports.iter().map(|report| report.heartbeat_at).chain(heard_at).chain(instance.heartbeat_at);
    let heartbeat_at = heartbeats.max().unwrap_or(instance.started_at);
    // A child that was killed reports no more, while its siblings go on.
    reports.retain(|report| heartbeat_at - report.heartbeat_at < LOST_AFTER);
    reports.sort_unstable_by_key(|report| report.pid);
    let counts = WorkerCounts {
        active: reports.iter().map(|report| report.active.len()).sum(),
        reserved: reports.iter().map(|report| report.reserved.len()).sum(),
        done: instance.tasks_done + reports.iter().map(|report| report.tasks_done).sum::<u64>(),
        failed: instance.tasks_failed + reports.iter().map(|report| report.tasks_failed).sum::<u64>(),
    };
    let children = reports.iter().filter(|_| instance.kind == WorkerKind::Process).map(|report| WorkerChild {
        pid: report.pid,
        tasks_done: report.tasks_done + report.tasks_failed,
        rss_kb: report.rss_kb,
        started_at: report.started_at,
    });
    let worker = Worker {
        id: instance.id,
        name: instance.name,
        host: instance.host,
        pid: instance.pid,
        version: instance.version,
        kind: instance.kind,
        queues: instance.queues,
        concurrency: instance.concurrency,
        prefetch: instance.prefetch,
        state: if now - heartbeat_at > LOST_AFTER { WorkerState::Lost } else { instance.state },
        started_at: instance.started_at,
        heartbeat_at,
        children: children.collect(),
        counts,
    };
    let (active, reserved) = reports.into_iter().map(|report| (report.active, report.reserved)).unzip::<_, _, Vec<_>, Vec<_>>();
    Some(WorkerDetail { worker, active: active.concat(), reserved: reserved.concat() })
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(Error::internal)
}
