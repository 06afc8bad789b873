//! Submit one job: check it, write it durably, bring it before the workers.

use super::{
    Job, NewJob, SubmitJob, coalesce,
    dependencies::{self, Known},
    kinds::{self, Payload},
    new_job::{Defaults, Origin},
    queues::{self, Durability},
    race,
    unique::{self, Accepted},
    view, volatile,
    write::{self, Target, Written},
};
use crate::{
    Caller, Code, Context, Result, Scope, ai,
    channels::publish_job,
    endpoints::{self, target},
    files::inspect,
    ids::JobId,
    mail, pg,
    points::import,
    tracks::report,
};
use sqlx::PgConnection;

/// Checks `submit` against every rule and fills its defaults in; writes nothing but the queue of a job that is not refused.
pub async fn prepare(ctx: &Context, caller: &Caller, submit: SubmitJob, origin: Origin) -> Result<NewJob> {
    let job = prepare_unbounded(ctx, caller, submit, origin).await?;
    queues::check_depth(ctx, &job.queue, caller.into()).await?;
    Ok(job)
}

/// [`prepare`] without a look at how full the queue is, for callers that look once for many.
pub(crate) async fn prepare_unbounded(ctx: &Context, caller: &Caller, submit: SubmitJob, origin: Origin) -> Result<NewJob> {
    let known = if submit.has_dependencies() { dependencies::resolve(ctx, caller, [&submit]).await? } else { Known::default() };
    prepare_knowing(ctx, caller, submit, origin, &known).await
}

/// The same where the jobs that it is to wait for were looked at.
pub(super) async fn prepare_knowing(ctx: &Context, caller: &Caller, submit: SubmitJob, origin: Origin, known: &Known) -> Result<NewJob> {
    caller.require(Scope::JobsWrite)?;
    let (profile, max_payload_bytes, dependencies_max) = {
        let settings = ctx.settings();
        (settings.profile, settings.max_payload_bytes.0, settings.job_dependencies_max)
    };
    submit.check(ctx.clock.now(), max_payload_bytes)?;
    let queue_name = submit.queue_name()?;
    let known_queue = ctx.pg_breaker.at_once_or_unless_open(queues::if_there(ctx, &queue_name)).await;
    let queue = known_queue.unwrap_or_else(|| Err(pg::away()))?;
    let is_remote = queue.as_ref().is_some_and(|queue| queue.remote);
    let kind = kinds::admit(&submit.kind.parse()?, caller, profile, is_remote, submit.payload.as_deref())?;
    match kind.map_or(Payload::Unchecked, |kind| kind.payload) {
        Payload::Unchecked => {}
        Payload::Mail => mail::check(ctx, submit.payload.as_deref())?,
        Payload::Prompt => ai::check(ctx, submit.payload.as_deref())?,
        // On the connections of the process, here and below: the caller may hold one of its thread's in a transaction.
        Payload::Import => Box::pin(import::check(&ctx.for_process(), caller, submit.payload.as_deref())).await?,
        Payload::Report => Box::pin(report::check(&ctx.for_process(), caller, submit.payload.as_deref())).await?,
        Payload::Publication => Box::pin(publish_job::check(&ctx.for_process(), caller, submit.payload.as_deref())).await?,
        Payload::File => Box::pin(inspect::check(&ctx.for_process(), caller, submit.payload.as_deref())).await?,
    }
    let target = match &submit.target {
        None if submit.kind != endpoints::KIND => None,
        target => Box::pin(target::check(&ctx.for_process(), caller, &submit.kind, target.as_ref())).await?,
    };
    let depends_on = known.open_dependencies(&submit, dependencies_max)?;
    // Last, so that a job that is refused makes no queue.
    let queue = match queue {
        Some(queue) => queue,
        None => {
            let made = ctx.pg_breaker.at_once_or_unless_open(queues::for_submit(ctx, &queue_name, caller.into())).await;
            made.unwrap_or_else(|| Err(pg::away()))?
        }
    };
    let defaults = Defaults { kind, queue_retry: queue.default_retry(), durability: queue.durability };
    Ok(NewJob { target, depends_on, ..submit.into_job(caller.user_id, &ctx.clock, defaults, origin)? })
}

/// Writes a prepared job together with others that come at the same moment. `Ok` means durable, as far as its queue is.
///
/// The job that the answer shows is another one, with `duplicate`, where its unique key is held.
pub async fn submit(ctx: &Context, job: NewJob) -> Result<Job> {
    if job.durability == Durability::Redis {
        return Box::pin(volatile::submit(ctx, job)).await;
    }
    let writing = async {
        match job.unique {
            _ if job.is_linked() => Box::pin(write_alone(ctx, job)).await,
            None => coalesce::write_together(ctx, job).await,
            Some(_) => Box::pin(write_with_key(ctx, job)).await,
        }
    };
    let (job, written) = ctx.pg_breaker.unless_open(writing).await.unwrap_or_else(|| Err(pg::away()))?;
    let holder = match written {
        Written::New => return Ok(view::into_job(job)),
        Written::Held(holder) => holder,
    };
    // Boxed: without a key, which is the rule, its size should cost nothing.
    Box::pin(meet_holder(ctx, job, holder)).await
}

/// A key that a long transaction holds fails the statement of all whose jobs go with it: each then goes alone, and only who asks
/// for that key fails.
async fn write_with_key(ctx: &Context, job: NewJob) -> Result<(NewJob, Written)> {
    match coalesce::write_together(ctx, job.clone()).await {
        Err(error) if error.code == Code::DeadlineExceeded => {}
        answer => return answer,
    }
    write_alone(ctx, job).await
}

/// Not with its contemporaries, who would have to wait for what ties it.
async fn write_alone(ctx: &Context, job: NewJob) -> Result<(NewJob, Written)> {
    let written = write::insert_each(Target::Pool(&ctx.pg), &[&job]).await;
    let written = written.into_iter().next().expect("there is a verdict for each job")?;
    if written == Written::New {
        announce(ctx, &[&job]).await;
    }
    Ok((job, written))
}

async fn meet_holder(ctx: &Context, job: NewJob, holder: JobId) -> Result<Job> {
    match unique::meet(ctx, Target::Pool(&ctx.pg), job, holder).await? {
        Accepted::New(job) => {
            announce(ctx, &[&job]).await;
            Ok(view::into_job(job))
        }
        Accepted::Existing(id) => unique::existing(ctx, id).await,
    }
}

/// Writes a prepared job in the caller's transaction; [`announce`] what was made after the commit. `None` is made where its
/// unique key is held: the job is then the other one, with `duplicate`.
///
/// What it has to ask beside the transaction goes over the connections of the process. A volatile job is no part of it: Redis
/// has taken the job when this returns, whether or not the commit succeeds.
pub async fn submit_in(ctx: &Context, transaction: &mut PgConnection, job: NewJob) -> Result<(Job, Option<NewJob>)> {
    if job.durability == Durability::Redis {
        return Ok((volatile::submit(ctx, job.clone()).await?, Some(job)));
    }
    let written = write::insert_each(Target::Transaction(transaction), &[&job]).await;
    let [Written::Held(holder)] = written.into_iter().collect::<Result<Vec<Written>>>()?[..] else {
        return Ok((view::into_job(job.clone()), Some(job)));
    };
    let ctx = ctx.for_process();
    match unique::meet(&ctx, Target::Transaction(transaction), job, holder).await? {
        Accepted::New(job) => Ok((view::into_job(job.clone()), Some(job))),
        Accepted::Existing(id) => Ok((unique::existing(&ctx, id).await?, None)),
    }
}

/// Brings committed jobs before the workers, and ends those that they replace. A failure is only logged: the reconciler finds the
/// rows.
pub async fn announce(ctx: &Context, jobs: &[&NewJob]) {
    race::enqueue(ctx, jobs).await;
    race::cancel_replaced(ctx, jobs).await;
    dependencies::look_after(ctx, jobs).await;
}
