//! A remote worker's session: who works, on which queues, and the nonce that its leases carry. It lives in Redis, where every process
//! finds it, until nothing has been heard of the worker for [`SESSION_TTL`].

use super::report;
use crate::{
    Caller, Code, Context, Error, Result, Scope,
    ids::{UserId, WorkerId},
    jobs::{
        JobKind, QueueName,
        engine::{Nonce, remote::settle, scripts::Holder},
        queues,
        worker_orders::WorkerOrder,
        workers::{WorkerInstance, WorkerKind, WorkerState},
    },
    json_fields,
    text::misleads,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;
use validator::{Validate, ValidationError};

/// A session that was not heard of for so long is over.
pub const SESSION_TTL: Duration = Duration::from_mins(10);
/// Queues, kinds and labels of one session, at most.
const LISTED_MAX: usize = 100;
const LABEL_MAX: usize = 200;

/// A worker that begins.
#[derive(Debug, Clone, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "thumbnails-1", "queues": ["thumbnails"], "concurrency": 4}))]
pub struct OpenSession {
    /// For people: what the worker is called in `GET /workers`.
    #[validate(length(min = 1, max = 200), custom(function = "one_line"))]
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\u0000-\u001F\u007F-\u009F\u200B-\u200F\u2028-\u202E\u2060-\u206F\uFEFF\uFFF9-\uFFFB]*$"
    )]
    pub name: String,
    /// Queues to lease from; each must have `remote`.
    #[validate(length(min = 1, max = 100))]
    #[schema(min_items = 1, max_items = 100)]
    pub queues: Vec<String>,
    /// Kinds that the worker takes; all when absent or empty. A job of another kind goes back for a second, so a queue should hold
    /// what its workers take.
    #[validate(length(max = 100))]
    #[schema(max_items = 100)]
    pub kinds: Option<Vec<String>>,
    /// Jobs that it runs at once.
    #[serde(deserialize_with = "json_fields::required_whole")]
    #[validate(range(min = 1, max = 10_000))]
    #[schema(minimum = 1, maximum = 10_000)]
    pub concurrency: i64,
    /// As `name`, without control characters and those that change the direction of writing.
    #[validate(length(max = 100), custom(function = "one_line"))]
    #[schema(max_length = 100, pattern = r"^[^\u0000-\u001F\u007F-\u009F\u200B-\u200F\u2028-\u202E\u2060-\u206F\uFEFF\uFFF9-\uFFFB]*$")]
    pub version: Option<String>,
    /// For people; at most 100, of up to 200 characters.
    #[validate(custom(function = "few_labels"))]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub labels: Option<BTreeMap<String, String>>,
}

fn one_line(text: &str) -> Result<(), ValidationError> {
    if text.contains(misleads) {
        let message = "must be one line, without characters that are not seen or change the direction of writing";
        return Err(ValidationError::new("one_line").with_message(message.into()));
    }
    Ok(())
}

fn few_labels(labels: &BTreeMap<String, String>) -> Result<(), ValidationError> {
    let is_short = |text: &String| text.chars().count() <= LABEL_MAX;
    if labels.len() <= LISTED_MAX && labels.iter().all(|(name, value)| is_short(name) && is_short(value)) {
        return Ok(());
    }
    Err(ValidationError::new("labels").with_message("must be at most 100 labels of up to 200 characters".into()))
}

/// What a worker is told when it begins.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WorkerSession {
    /// Of every further request, and the worker's id in `GET /workers`.
    pub session_id: WorkerId,
    /// A heartbeat is due so often, whether the worker holds jobs or not.
    #[schema(example = 10_000)]
    pub heartbeat_ms: u64,
    /// A lease that no heartbeat extends is lost after so long.
    #[schema(example = 30_000)]
    pub lease_ms: u64,
}

/// A session as Redis keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Session {
    pub id: WorkerId,
    pub owner_id: UserId,
    nonce: Uuid,
    pub name: String,
    pub queues: Vec<QueueName>,
    #[serde(default)]
    pub kinds: Vec<JobKind>,
    pub concurrency: usize,
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
}

impl Session {
    pub fn nonce(&self) -> Nonce {
        Nonce(self.nonce)
    }

    pub(super) fn holder(&self, ctx: &Context) -> Holder {
        settle::holder(ctx, self.nonce(), self.id.to_string())
    }

    /// As `GET /workers` shows it.
    pub(super) fn instance(&self, state: WorkerState) -> WorkerInstance {
        WorkerInstance {
            id: self.id,
            kind: WorkerKind::Remote,
            name: self.name.clone(),
            host: String::new(),
            pid: 0,
            version: self.version.clone(),
            queues: self.queues.iter().map(ToString::to_string).collect(),
            concurrency: self.concurrency,
            prefetch: self.concurrency,
            state,
            started_at: self.started_at,
            heartbeat_at: None,
            tasks_done: 0,
            tasks_failed: 0,
        }
    }
}

/// Begins a session.
pub async fn open(ctx: &Context, caller: &Caller, request: &OpenSession) -> Result<WorkerSession> {
    caller.require(Scope::JobsWork)?;
    let session = Session {
        id: WorkerId::new(),
        owner_id: caller.user_id,
        nonce: Nonce::new().0,
        name: request.name.clone(),
        queues: remote_queues(ctx, &request.queues).await?,
        kinds: kinds(request.kinds.as_deref().unwrap_or_default())?,
        concurrency: usize::try_from(request.concurrency).unwrap_or(1),
        version: request.version.clone().unwrap_or_default(),
        labels: request.labels.clone().unwrap_or_default(),
        started_at: ctx.clock.now(),
    };
    let text = serde_json::to_string(&session).map_err(Error::internal)?;
    let mut cmd = redis::cmd("SET");
    cmd.arg(ctx.keys.worker_session(&session.id.to_string())).arg(text).arg("PX").arg(report::ttl_ms());
    cmd.exec_async(&mut ctx.redis.connection()).await?;
    report::report(ctx, &session.instance(WorkerState::Running), Vec::new(), 0).await?;
    let settings = ctx.settings();
    Ok(WorkerSession { session_id: session.id, heartbeat_ms: settings.worker_heartbeat_ms, lease_ms: settings.worker_lease_ms })
}

/// The queues, once each, if all of them may be worked on from outside.
async fn remote_queues(ctx: &Context, names: &[String]) -> Result<Vec<QueueName>> {
    let mut queues: Vec<QueueName> = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        let pointer = format!("/queues/{at}");
        let name: QueueName = name.parse().map_err(|error: Error| Error::invalid(&pointer, "name", error.detail.clone()))?;
        if !is_remote(ctx, &name).await? {
            let detail = "is no queue that allows remote workers: an operator sets `remote` on it";
            return Err(Error::invalid(pointer, "not_remote", detail));
        }
        if !queues.contains(&name) {
            queues.push(name);
        }
    }
    Ok(queues)
}

fn kinds(names: &[String]) -> Result<Vec<JobKind>> {
    let parse = |(at, name): (usize, &String)| {
        name.parse().map_err(|error: Error| Error::invalid(format!("/kinds/{at}"), "name", error.detail.clone()))
    };
    names.iter().enumerate().map(parse).collect()
}

/// Whether remote workers may lease from the queue; what there is not they may not.
pub(super) async fn is_remote(ctx: &Context, name: &QueueName) -> Result<bool> {
    match queues::existing(ctx, name).await {
        Ok(settings) => Ok(settings.remote),
        Err(error) if error.code == Code::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The session, if it is the caller's, with what an operator wants of its worker. Notes that the worker was heard of.
pub(super) async fn touch(ctx: &Context, caller: &Caller, id: WorkerId) -> Result<(Session, WorkerOrder)> {
    caller.require(Scope::JobsWork)?;
    let mut cmd = redis::cmd("GET");
    cmd.arg(ctx.keys.worker_session(&id.to_string()));
    let text: Option<String> = cmd.query_async(&mut ctx.redis.connection()).await?;
    let session: Option<Session> = text.map(|text| serde_json::from_str(&text)).transpose().map_err(Error::internal)?;
    let session = session.filter(|session| session.owner_id == caller.user_id).ok_or_else(|| Error::not_found("worker session"))?;
    // Only now: what others say in its name keeps no worker alive.
    let order = report::heard(ctx, id).await?;
    Ok((session, order))
}
