//! The apalis worker of a child: each attempt a task of its own, as many at once as the child may ever have slots.

use super::Assignment;
use crate::attempt::Runner;
use apalis::layers::WorkerBuilderExt;
use apalis_core::{
    task::Task,
    worker::{builder::WorkerBuilder, ext::parallelize::ParallelizeExt},
};
use shared::jobs::{
    backend::EngineBackend,
    engine::{held::LeasedJob, leaser::End},
};
use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};
use tokio::{runtime::Handle, task::JoinHandle};

/// Runs on the threads of `handlers`.
pub(super) fn spawn(backend: EngineBackend, runner: Arc<Runner>, assignment: &Assignment, handlers: &Handle) -> JoinHandle<()> {
    let worker = WorkerBuilder::new(format!("child-{}", assignment.index))
        .backend(backend)
        .concurrency(assignment.slots)
        .parallelize(tokio::spawn)
        .build(Attempts { runner });
    handlers.spawn(async move {
        if let Err(error) = worker.run().await {
            tracing::error!(%error, "the worker ended by itself");
        }
    })
}

/// The innermost service: one call, one attempt. It never fails; what went wrong is in the end it returns.
#[derive(Debug, Clone)]
struct Attempts {
    runner: Arc<Runner>,
}

impl tower::Service<Task<Arc<LeasedJob>>> for Attempts {
    type Response = End;
    type Error = Infallible;
    type Future = Attempt;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, task: Task<Arc<LeasedJob>>) -> Self::Future {
        let runner = Arc::clone(&self.runner);
        Attempt(Box::pin(async move { runner.run(task.args).await }))
    }
}

/// A type of our own around the boxed future: the compiler cannot see past the lifetime of a bare one inside `spawn`.
struct Attempt(Pin<Box<dyn Future<Output = End> + Send>>);

impl Future for Attempt {
    type Output = Result<End, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}
