//! One attempt: from its start to its outcome. Whatever the handler does (return, panic, hang, ignore its cancel), there
//! is an end, and only one.

use crate::{
    black_box::Recorder,
    registry::{JobContext, Registry},
    slots::Slots,
};
use futures_util::FutureExt;
use shared::{
    Context,
    jobs::engine::{
        Outcome,
        held::{Held, LeasedJob, StopReason},
        leaser::End,
        progress::Board,
    },
    telemetry::traces,
};
use std::{any::Any, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};
use tracing::{Instrument, field};

/// How long attempts may take, by the worker's settings; `None` is no limit.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Then the handler is asked to stop.
    pub soft: Option<Duration>,
    /// Then it is dropped.
    pub hard: Option<Duration>,
    /// Between being asked to stop for a cancel and being dropped.
    pub cancel_grace: Duration,
    pub result_bytes: usize,
}

impl Limits {
    /// When `job`'s attempt is stopped at the latest: the shorter of its own limit and the worker's.
    fn hard_of(&self, job: &LeasedJob) -> Option<Duration> {
        [job.timeout, self.hard].into_iter().flatten().min()
    }
}

/// Runs attempts; one per child process.
#[derive(Debug)]
pub struct Runner {
    pub ctx: Context,
    pub registry: Registry,
    pub held: Arc<Held>,
    pub limits: Limits,
    pub recorder: Arc<Recorder>,
    pub progress: Arc<Board>,
    pub slots: Arc<Slots>,
}

impl Runner {
    /// Runs one delivery to its end.
    pub async fn run(&self, job: Arc<LeasedJob>) -> End {
        let traced = begin_trace(&job);
        let context = traced.as_ref().map(traces::Span::context);
        let span = tracing::info_span!(
            "job", job_id = %job.id(), kind = %job.kind, queue = %job.keys.queue, attempt = job.token.attempt,
            request_id = job.request_id.as_deref(), trace_id = context.map(|context| field::display(context.trace_id()))
        );
        let end = traces::within(context, self.start_and_supervise(job)).instrument(span).await;
        if let Some(traced) = traced {
            end_trace(traced, &end);
        }
        end
    }

    async fn start_and_supervise(&self, job: Arc<LeasedJob>) -> End {
        let Some(_slot) = self.slots.take().await else { return End::NotStarted };
        let now = self.ctx.clock.now();
        if job.signals.reason() == Some(StopReason::Cancelled) {
            return End::Outcome(Outcome::Cancelled);
        }
        if job.expires_at.is_some_and(|at| at <= now) {
            return End::Outcome(Outcome::Expired);
        }
        if !self.held.start(job.token, now) {
            return End::NotStarted;
        }
        let Some(handler) = self.registry.find(job.kind.as_str()) else {
            let message = format!("this release of the worker does not run `{}`", job.kind);
            return End::Outcome(Outcome::retry("unknown_kind", message));
        };
        let _on_record = self.recorder.begin(&job, now, self.limits.hard_of(&job));
        // Before the handler is called: who counts these lines (`make chaos`) misses no run.
        tracing::debug!("the attempt starts");
        let context = JobContext { ctx: self.ctx.clone(), job: Arc::clone(&job), progress: Arc::clone(&self.progress) };
        // The handler's own call is inside the future as well: it may panic before its first await.
        match supervise(async move { handler(context).await }, &job, self.limits).await {
            End::Outcome(outcome) => End::Outcome(outcome.checked(self.limits.result_bytes)),
            end @ (End::NotStarted | End::Abandoned) => end,
        }
    }
}

/// The attempt's span, below that of the request that submitted the job; `None` while traces are off.
fn begin_trace(job: &LeasedJob) -> Option<traces::Span> {
    if !traces::are_on() {
        return None;
    }
    let parent = job.traceparent.as_deref().and_then(|traceparent| traceparent.parse().ok());
    let mut span = traces::Span::begin(traces::Kind::Consumer, format!("job {}", job.kind), traces::Whose::Ours, parent)?;
    span.set("job.id", job.id().to_string());
    span.set("job.kind", job.kind.as_str());
    span.set("job.queue", job.keys.queue.as_str());
    span.set("job.attempt", i64::from(job.token.attempt));
    span.set("worker_pid", i64::from(std::process::id()));
    Some(span)
}

fn end_trace(mut span: traces::Span, end: &End) {
    let outcome = match end {
        End::Outcome(outcome) => outcome.name(),
        End::NotStarted => "not_started",
        End::Abandoned => "abandoned",
    };
    span.set("job.outcome", outcome);
    // What an error says may be of a caller's making, and stays with the job.
    if !matches!(outcome, "done" | "snooze" | "postpone" | "parked" | "cancelled" | "expired" | "not_started") {
        span.fail(outcome);
    }
}

/// Polls the attempt against its limits and signals; the attempt wins every tie.
async fn supervise(attempt: impl Future<Output = Outcome>, job: &LeasedJob, limits: Limits) -> End {
    let attempt = AssertUnwindSafe(attempt).catch_unwind();
    let started = Instant::now();
    let hard = limits.hard_of(job);
    let mut end_at = hard.map(|limit| started + limit);
    let mut ask_at = limits.soft.map(|limit| started + limit);
    let mut is_asked = false;
    tokio::pin!(attempt);
    loop {
        tokio::select! {
            biased;
            result = &mut attempt => return returned(result, job, started.elapsed()),
            () = job.signals.hard.cancelled() => return End::Abandoned,
            () = at(end_at), if end_at.is_some() => {
                if job.signals.reason() == Some(StopReason::Cancelled) {
                    return End::Outcome(Outcome::Cancelled);
                }
                return End::Outcome(Outcome::Timeout { limit: hard.unwrap_or_default() });
            }
            () = at(ask_at), if ask_at.is_some() => {
                ask_at = None;
                job.signals.soft.cancel();
            }
            () = job.signals.soft.cancelled(), if !is_asked => {
                is_asked = true;
                if job.signals.reason() == Some(StopReason::Cancelled) {
                    let grace_ends = Instant::now() + limits.cancel_grace;
                    end_at = Some(end_at.map_or(grace_ends, |end_at| end_at.min(grace_ends)));
                }
            }
        }
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// What a handler's return means: one that stopped early did so because it was asked, and who asked decides.
fn returned(result: Result<Outcome, Box<dyn Any + Send>>, job: &LeasedJob, ran: Duration) -> End {
    match result {
        Ok(Outcome::Cancelled) => match job.signals.reason() {
            Some(StopReason::WorkerStops | StopReason::LeaseLost) => End::Abandoned,
            Some(StopReason::Cancelled) => End::Outcome(Outcome::Cancelled),
            None if job.signals.soft.is_cancelled() => End::Outcome(Outcome::Timeout { limit: ran }),
            None => End::Outcome(Outcome::retry("unasked_cancel", "the handler stopped as if asked to, and nobody had asked")),
        },
        Ok(outcome) => End::Outcome(outcome),
        Err(panic) => End::Outcome(Outcome::Panic(panic_message(&*panic))),
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "the handler panicked".to_owned())
}

#[cfg(test)]
pub(crate) mod tests;
