//! What operators tell a worker from afar: a short list in Redis. A supervisor takes the orders from it with each heartbeat; a remote
//! worker is told the last one whenever it asks for anything, for as long as it is there.

use super::{
    remote::session::SESSION_TTL,
    workers::{self, Worker, WorkerKind, WorkerState},
};
use crate::{
    Caller, Code, Context, Error, Result,
    accounts::{
        Origin,
        audit::{self, Action, Deed, Subject},
    },
    ids::WorkerId,
};
use std::time::Duration;

/// Orders that wait for a worker, at most; older ones are dropped.
pub(super) const ORDERS_MAX: usize = 16;
/// What a supervisor has not heard by then, it never will.
const KEPT_FOR: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerOrder {
    /// Lease nothing more; what is leased runs.
    Quiet,
    /// Lease again.
    Resume,
    /// Finish what runs, then end.
    Stop,
}

impl WorkerOrder {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Resume => "resume",
            Self::Stop => "stop",
        }
    }

    const fn action(self) -> Action {
        match self {
            Self::Quiet => Action::WorkerQuieted,
            Self::Resume => Action::WorkerResumed,
            Self::Stop => Action::WorkerStopped,
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Quiet, Self::Resume, Self::Stop].into_iter().find(|order| order.as_str() == text)
    }
}

/// Tells a worker what to do, which it hears within a second or two, and notes it in the audit log. Returns the worker as it was.
pub async fn tell(ctx: &Context, caller: &Caller, id: WorkerId, order: WorkerOrder, origin: &Origin) -> Result<Worker> {
    let worker = workers::get(ctx, caller, id).await?.worker;
    if worker.state == WorkerState::Lost {
        return Err(Error::new(Code::Conflict, "The worker has not been heard of for a while: nobody is there to be told."));
    }
    // The command line has no account.
    let actor = Some(caller.user_id).filter(|id| !id.0.is_nil());
    let deed = Deed::new(actor, order.action(), Subject::Worker(id), origin);
    audit::record(&ctx.pg, ctx.clock.now(), deed.with(serde_json::json!({ "name": worker.name }))).await?;
    let key = ctx.keys.worker_orders(&id.to_string());
    let kept_for = match worker.kind {
        WorkerKind::Process => KEPT_FOR,
        WorkerKind::Remote => SESSION_TTL,
    };
    let kept_ms = i64::try_from(kept_for.as_millis()).expect("minutes are few milliseconds");
    let mut pipe = redis::pipe();
    pipe.rpush(&key, order.as_str()).ignore();
    pipe.ltrim(&key, -isize::try_from(ORDERS_MAX).expect("they are few"), -1).ignore();
    pipe.pexpire(&key, kept_ms).ignore();
    pipe.exec_async(&mut ctx.redis.connection()).await?;
    Ok(worker)
}
