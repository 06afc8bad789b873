//! The engine as an apalis backend: the only file outside `jobs/` that knows apalis.
//!
//! It hands out what the leasing task has leased, and its layer hands back how each delivery ended. All I/O, heartbeats
//! and settling live in tasks of their own, because apalis polls no backend while it drains. Nothing here returns an error:
//! one would end the worker, and the leasing task rides out every outage by itself.

use super::engine::{
    Outcome,
    held::LeasedJob,
    leaser::{End, Ended, Mode},
};
use apalis_core::{
    backend::{Backend, BackendConfig, finalize::Ephemeral},
    error::BoxDynError,
    task::Task,
    worker::context::WorkerContext,
};
use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::sync::{mpsc, watch};
use tower::{Layer, Service};

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Feeds one apalis worker from one leasing task.
pub struct EngineBackend {
    jobs: mpsc::Receiver<Arc<LeasedJob>>,
    ended: mpsc::Sender<Ended>,
    mode: watch::Sender<Mode>,
    /// Becomes true when the leasing task has returned.
    settled: watch::Receiver<bool>,
    closing: Option<BoxFuture<()>>,
}

impl fmt::Debug for EngineBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineBackend").field("is_closing", &self.closing.is_some()).finish_non_exhaustive()
    }
}

impl EngineBackend {
    pub fn new(
        jobs: mpsc::Receiver<Arc<LeasedJob>>,
        ended: mpsc::Sender<Ended>,
        mode: watch::Sender<Mode>,
        settled: watch::Receiver<bool>,
    ) -> Self {
        Self { jobs, ended, mode, settled, closing: None }
    }
}

impl Backend for EngineBackend {
    type Task = Task<Arc<LeasedJob>>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, _: &WorkerContext) -> Poll<Option<Result<Self::Task, Infallible>>> {
        self.jobs.poll_recv(cx).map(|job| job.map(|job| Ok(Task::new(job))))
    }

    /// Called when no attempt runs any more: everything that ended is in the leasing task's channel. Its own end is waited
    /// for, not the channel's, since the layer holds a sender of that.
    fn poll_close(&mut self, cx: &mut Context<'_>, worker: &WorkerContext) -> Poll<Result<(), Infallible>> {
        let Self { mode, settled, closing, .. } = self;
        let closing = closing.get_or_insert_with(|| {
            mode.send_replace(Mode::Flush);
            let mut settled = settled.clone();
            Box::pin(async move { drop(settled.wait_for(|settled| *settled).await) })
        });
        ready!(closing.as_mut().poll(cx));
        // A worker whose backend has run dry still waits to be told to stop. It fails only on one that never started.
        drop(worker.stop());
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for EngineBackend {
    type Args = Arc<LeasedJob>;
    type Id = uuid::Uuid;
    // Payloads stay raw bytes until a handler takes them, so that an undecodable one is a dead letter and not a dead worker.
    type Kind = Ephemeral;
    type Config = ();
    type Layer = SettleLayer;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> SettleLayer {
        SettleLayer { ended: self.ended.clone() }
    }
}

/// Sends every delivery's end to the leasing task, whatever the stack inside made of it.
#[derive(Debug, Clone)]
pub struct SettleLayer {
    ended: mpsc::Sender<Ended>,
}

impl<S> Layer<S> for SettleLayer {
    type Service = SettleService<S>;

    fn layer(&self, inner: S) -> SettleService<S> {
        SettleService { inner, ended: self.ended.clone() }
    }
}

#[derive(Debug, Clone)]
pub struct SettleService<S> {
    inner: S,
    ended: mpsc::Sender<Ended>,
}

impl<S> Service<Task<Arc<LeasedJob>>> for SettleService<S>
where
    S: Service<Task<Arc<LeasedJob>>, Response = End>,
    S::Error: Into<BoxDynError>,
    S::Future: Send + 'static,
{
    type Response = ();
    type Error = BoxDynError;
    type Future = BoxFuture<Result<(), BoxDynError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxDynError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, task: Task<Arc<LeasedJob>>) -> Self::Future {
        let job = Arc::clone(&task.args);
        let ended = self.ended.clone();
        let attempt = self.inner.call(task);
        Box::pin(async move {
            // The stack inside catches what handlers do; an error here is the stack's own panic or abort.
            let end = attempt.await.unwrap_or_else(|error| End::Outcome(Outcome::Panic(error.into().to_string())));
            // Fails only when the leasing task has given up; the lease then expires and the job runs again.
            drop(ended.send(Ended { job, end }).await);
            Ok(())
        })
    }
}
