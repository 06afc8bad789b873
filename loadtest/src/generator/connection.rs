//! The loop of one connection: wait for a turn, send, read, record.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::pace::Pacer;
use super::plan::{Harvest, Plan};
use super::recorder::Recorder;
use crate::client::{AcceptedPoints, Failure, JobIds, Link, Scratch};

/// Pause after a refused connection, so that a server that is down is not hammered.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// What the connections of one thread share.
#[derive(Debug)]
pub(super) struct ThreadContext {
    pub(super) plan: Arc<Plan>,
    pub(super) pacer: Pacer,
    pub(super) scratch: Rc<Scratch>,
    pub(super) recorder: RefCell<Recorder>,
    /// Responses so far, for the progress bar; written by this thread alone.
    pub(super) answered: Arc<AtomicU64>,
}

/// Runs one connection until its pacer says that the run is over.
pub(super) async fn drive(ctx: Rc<ThreadContext>, mut link: Link, slot: usize, first: usize) {
    let requests = &ctx.plan.requests;
    let mut request_idx = first % requests.len();
    let mut free_since = Instant::now();
    let mut job_ids = JobIds::new();
    let (mut points, mut numbered) = (AcceptedPoints::default(), Vec::new());
    while let Some(departure) = ctx.pacer.next(slot, free_since).await {
        if let Some(budget) = &ctx.plan.budget {
            let Some(n_left) = budget.take() else { break };
            request_idx = requests.len() - 1 - usize::try_from(n_left % requests.len() as u64).expect("below the number of requests");
        }
        let (request, sent_idx) = (&requests[request_idx], request_idx);
        request_idx = (request_idx + 1) % requests.len();
        let outcome = match &ctx.plan.harvest {
            Harvest::Nothing => link.exchange(request, &ctx.scratch, |_| ()).await,
            Harvest::JobIds => link.exchange(request, &ctx.scratch, |piece| job_ids.read(piece)).await,
            Harvest::Accepted(numbering) => {
                let sink = |piece: &[u8]| {
                    job_ids.read(piece);
                    points.read(piece);
                };
                link.exchange(numbering.number(sent_idx, request, &mut numbered), &ctx.scratch, sink).await
            }
        };
        free_since = Instant::now();
        let (named, n_points) = (job_ids.take(), points.take());
        match outcome {
            Ok(response) => {
                let mut recorder = ctx.recorder.borrow_mut();
                recorder.response(response.status, departure, free_since);
                match &ctx.plan.harvest {
                    Harvest::Nothing => {}
                    Harvest::JobIds => recorder.job_ids(response.status, named, free_since),
                    Harvest::Accepted(_) => recorder.accepted(response.status, named, n_points),
                }
                // One writer: a plain store is cheaper than an atomic addition.
                let n_answered = ctx.answered.load(Ordering::Relaxed) + 1;
                ctx.answered.store(n_answered, Ordering::Relaxed);
            }
            Err(failure) => {
                ctx.recorder.borrow_mut().failure(&failure, departure);
                if let Failure::Connect(_) = failure {
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                    free_since = Instant::now();
                }
            }
        }
    }
    ctx.recorder.borrow_mut().reconnects += link.reconnects();
}
