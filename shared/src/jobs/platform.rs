//! Jobs that the platform asks for itself: nobody's, seen by operators, in the queue `default` ahead of what is not urgent.

use super::{
    JobKind, NewJob, QueueName, Unique, kinds,
    new_job::OnConflict,
    queues,
    queues::{Creator, Durability},
    submit,
};
use crate::{
    Context, Error, Result,
    ids::{JobId, UserId},
};
use serde_json::value::RawValue;
use uuid::Uuid;

/// Ahead of jobs that do not say how urgent they are.
const PRIORITY: i16 = 6;

/// Owns what nobody does.
pub const PLATFORM: UserId = UserId(Uuid::nil());

/// A job to be done.
pub(crate) struct Asked {
    pub(crate) kind: &'static str,
    pub(crate) payload: Box<RawValue>,
    /// At most one of a key in so many seconds, as far as the queue can tell.
    pub(crate) once: Option<(String, i32)>,
    pub(crate) request_id: Option<String>,
}

pub(crate) async fn submit(ctx: &Context, asked: Asked) -> Result<()> {
    let (name, queue) = (JobKind::new(asked.kind)?, QueueName::default());
    let kind = kinds::find(&name).ok_or_else(|| Error::internal(format!("the platform has no kind `{name}`")))?;
    let settings = queues::for_submit(ctx, &queue, Creator::Operator).await?;
    let now = ctx.clock.now();
    let unique = asked.once.filter(|_| settings.durability == Durability::Postgres);
    let job = NewJob {
        id: JobId::new(),
        owner_id: PLATFORM,
        kind: name,
        queue,
        durability: settings.durability,
        priority: PRIORITY,
        payload: asked.payload,
        run_at: now,
        expires_at: None,
        timeout_ms: kind.timeout_ms(),
        retry: kind.retry.unwrap_or(settings.default_retry()),
        unique: unique.map(|(key, ttl_s)| Unique { key, ttl_s, on_conflict: OnConflict::ReturnExisting, replaces: None }),
        tags: Vec::new(),
        target: None,
        concurrency_key: None,
        batch_id: None,
        depends_on: Vec::new(),
        request_id: asked.request_id,
        traceparent: None,
        created_at: now,
    };
    submit::submit(ctx, job.kept()).await.map(drop)
}
