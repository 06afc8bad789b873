//! The in-flight limit of one worker thread: past it a request waits shortly, among few, and is then shed with 503
//! before its body is read. Probes always pass. Idle keep-alive connections do not count.

use super::RequestScope;
use actix_web::dev::ServiceRequest;
use shared::{Code, Error, Result, telemetry::metrics::HTTP_SHED};
use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::timeout};

/// How long a request over the limit waits for a place.
const WAIT: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Admission {
    places: Arc<Semaphore>,
    waiting: Cell<usize>,
    waiting_max: usize,
}

/// Paths that must answer however busy the process is.
pub(crate) fn is_probe(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/health" | "/api/health" | "/metrics")
}

impl Admission {
    pub(super) fn new(limit: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(limit)), waiting: Cell::new(0), waiting_max: (limit / 4).max(1) }
    }

    pub(super) async fn admit(&self, request: &ServiceRequest, scope: &Rc<RequestScope>) -> Result<()> {
        if is_probe(request.path()) {
            return Ok(());
        }
        if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
            scope.hold(permit);
            return Ok(());
        }
        if self.waiting.get() >= self.waiting_max {
            return Err(shed("queue"));
        }
        self.waiting.set(self.waiting.get() + 1);
        let place = timeout(WAIT, Arc::clone(&self.places).acquire_owned()).await;
        self.waiting.set(self.waiting.get() - 1);
        match place {
            Ok(Ok(permit)) => {
                scope.hold(permit);
                Ok(())
            }
            Ok(Err(_)) | Err(_) => Err(shed("wait")),
        }
    }
}

fn shed(reason: &'static str) -> Error {
    metrics::counter!(HTTP_SHED, "reason" => reason).increment(1);
    // Jitter, so that those sent away do not come back as one crowd.
    let delay = Duration::from_secs(rand::random_range(1..=3));
    Error::new(Code::Overloaded, "More requests are in flight than this process takes.").retry_after(delay)
}
