//! Submit one job: check it, write it durably, bring it before the workers.

use super::{
    Job, NewJob, SubmitJob, coalesce, kinds,
    new_job::{Defaults, Origin},
    queues, race, view,
    write::{self, Target},
};
use crate::{Caller, Context, Result, Scope};
use sqlx::PgConnection;

/// Checks `submit` against every rule and fills its defaults in; writes nothing.
pub async fn prepare(ctx: &Context, caller: &Caller, submit: SubmitJob, origin: Origin) -> Result<NewJob> {
    let job = prepare_unbounded(ctx, caller, submit, origin).await?;
    queues::check_depth(ctx, &job.queue, 1).await?;
    Ok(job)
}

/// [`prepare`] without a look at how full the queue is, for callers that look once for many.
pub(super) async fn prepare_unbounded(ctx: &Context, caller: &Caller, submit: SubmitJob, origin: Origin) -> Result<NewJob> {
    caller.require(Scope::JobsWrite)?;
    let (profile, max_payload_bytes) = {
        let settings = ctx.settings();
        (settings.profile, settings.max_payload_bytes.0)
    };
    submit.check(ctx.clock.now(), max_payload_bytes)?;
    let queue = queues::for_submit(ctx, &submit.queue_name()?).await?;
    let kind = kinds::admit(&submit.kind.parse()?, caller, profile, queue.remote)?;
    let defaults = Defaults { kind, queue_retry: queue.default_retry() };
    submit.into_job(caller.user_id, &ctx.clock, defaults, origin)
}

/// Writes a prepared job together with others that come at the same moment. `Ok` means durable.
pub async fn submit(ctx: &Context, job: NewJob) -> Result<Job> {
    let job = coalesce::write_together(ctx, job).await?;
    Ok(view::new_job(&job))
}

/// Writes a prepared job in the caller's transaction; [`announce`] it after the commit.
pub async fn submit_in(transaction: &mut PgConnection, job: &NewJob) -> Result<Job> {
    let verdicts = write::insert_each(Target::Transaction(transaction), &[job]).await;
    verdicts.into_iter().collect::<Result<Vec<()>>>()?;
    Ok(view::new_job(job))
}

/// Brings committed jobs before the workers. A failure is only logged: the reconciler finds the rows.
pub async fn announce(ctx: &Context, jobs: &[&NewJob]) {
    race::enqueue(ctx, jobs).await;
}
