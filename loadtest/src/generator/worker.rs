//! One load thread: its event loop, its connections, and what they share.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::SyncSender;

use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinSet, LocalSet};

use super::connection::{ThreadContext, drive};
use super::pace::{Pacer, Share};
use super::plan::{Plan, Window};
use super::recorder::Recorder;
use crate::client::{Link, Scratch};

/// Connections being made at once by each thread: more would overrun the server's backlog, and
/// a dropped SYN is sent again only after a second.
const CONNECTING_PER_THREAD: usize = 64;
/// A thread's word that its connections are made.
pub(super) struct Connected {
    pub(super) n_failed: u32,
    pub(super) first_failure: Option<String>,
}

/// What a thread brings home.
pub(super) struct Recorded {
    pub(super) recorder: Recorder,
    /// Requests its share of the schedule had; None in the closed loop.
    pub(super) offered: Option<u64>,
}

/// One load thread.
pub(super) struct Worker {
    pub(super) thread_idx: u32,
    pub(super) n_threads: u32,
    pub(super) plan: Arc<Plan>,
    pub(super) answered: Arc<AtomicU64>,
    pub(super) connected: SyncSender<Connected>,
    pub(super) launch: oneshot::Receiver<Window>,
}

impl Worker {
    pub(super) fn run(self) -> std::io::Result<Recorded> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let local = LocalSet::new();
        local.block_on(&runtime, self.connect_and_drive())
    }

    async fn connect_and_drive(self) -> std::io::Result<Recorded> {
        let (links, report) = connect_all(&self.plan, self.thread_idx, self.n_threads).await;
        // A failed send means that the coordinator is gone, and so is the launch below.
        let _ = self.connected.send(report);
        let Ok(window) = self.launch.await else {
            return Err(std::io::ErrorKind::Interrupted.into());
        };
        let share = Share { thread_idx: self.thread_idx, threads: self.n_threads, connections: links.len() };
        let ctx = Rc::new(ThreadContext {
            pacer: Pacer::new(self.plan.pace, window, share),
            plan: self.plan,
            scratch: Rc::new(Scratch::new()),
            recorder: RefCell::new(Recorder::new(window)),
            answered: self.answered,
        });
        tokio::time::sleep_until(window.launch.into()).await;
        let mut drives = JoinSet::new();
        for (slot, (connection_idx, link)) in links.into_iter().enumerate() {
            drives.spawn_local(drive(Rc::clone(&ctx), link, slot, connection_idx as usize));
        }
        if let Pacer::Open(schedule) = &ctx.pacer {
            schedule.dispatch().await?;
        }
        drives.join_all().await;
        Ok(Recorded { offered: ctx.pacer.offered(), recorder: ctx.recorder.replace(Recorder::new(window)) })
    }
}

/// Makes this thread's share of the connections; one that fails is kept, to be tried again when
/// its turn comes to send.
async fn connect_all(plan: &Plan, thread_idx: u32, n_threads: u32) -> (Vec<(u32, Link)>, Connected) {
    let permits = Rc::new(Semaphore::new(CONNECTING_PER_THREAD));
    let mut attempts = JoinSet::new();
    for connection_idx in (thread_idx..plan.connections).step_by(n_threads as usize) {
        let source = plan.sources.of_connection(connection_idx);
        let mut link = Link::new(plan.peer, source, plan.body_rule, plan.timeout);
        let permits = Rc::clone(&permits);
        attempts.spawn_local(async move {
            let _permit = permits.acquire().await;
            let failure = link.connect().await.err();
            (connection_idx, link, failure)
        });
    }
    let mut report = Connected { n_failed: 0, first_failure: None };
    let mut links = Vec::new();
    for (connection_idx, link, failure) in attempts.join_all().await {
        if let Some(failure) = failure {
            report.n_failed += 1;
            report.first_failure.get_or_insert_with(|| failure.to_string());
        }
        links.push((connection_idx, link));
    }
    (links, report)
}
