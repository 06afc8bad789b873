//! Which jobs and queues this process follows, and how far it has told of each job.

use crate::{ids::JobId, jobs::QueueName};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::watch;

/// Bounded by the channels that this process is subscribed to.
#[derive(Debug, Default)]
pub(in crate::jobs) struct Follows {
    inner: Mutex<Inner>,
    is_hearing: watch::Sender<bool>,
    listener: AtomicBool,
    teller: AtomicBool,
}

#[derive(Debug, Default)]
struct Inner {
    jobs: HashMap<JobId, Followed>,
    queues: BTreeSet<QueueName>,
}

/// A job that this process follows.
#[derive(Debug, Clone)]
pub(super) struct Followed {
    pub(super) queue: QueueName,
    /// The last attempt whose start this process has told; 0 before the first.
    pub(super) begun: i32,
    /// The attempt that the job had ended with when this process told so; 0 before.
    pub(super) over: i32,
}

impl Follows {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add_job(&self, id: JobId, queue: QueueName) {
        self.lock().jobs.entry(id).or_insert(Followed { queue, begun: 0, over: 0 });
    }

    pub(super) fn remove_job(&self, id: JobId) {
        self.lock().jobs.remove(&id);
    }

    pub(super) fn job(&self, id: JobId) -> Option<Followed> {
        self.lock().jobs.get(&id).cloned()
    }

    pub(super) fn has_begun(&self, id: JobId, attempt: i32) {
        if let Some(job) = self.lock().jobs.get_mut(&id) {
            job.begun = job.begun.max(attempt);
        }
    }

    pub(super) fn is_over(&self, id: JobId, attempt: i32) {
        if let Some(job) = self.lock().jobs.get_mut(&id) {
            job.over = job.over.max(attempt);
        }
    }

    pub(super) fn jobs(&self) -> Vec<JobId> {
        self.lock().jobs.keys().copied().collect()
    }

    pub(super) fn jobs_by_queue(&self) -> HashMap<QueueName, Vec<JobId>> {
        let mut by_queue: HashMap<QueueName, Vec<JobId>> = HashMap::new();
        for (id, job) in &self.lock().jobs {
            by_queue.entry(job.queue.clone()).or_default().push(*id);
        }
        by_queue
    }

    pub(super) fn add_queue(&self, queue: QueueName) {
        self.lock().queues.insert(queue);
    }

    pub(super) fn remove_queue(&self, queue: &QueueName) {
        self.lock().queues.remove(queue);
    }

    pub(super) fn queues(&self) -> Vec<QueueName> {
        self.lock().queues.iter().cloned().collect()
    }

    /// Whether the caller is the one who starts the process's listener.
    pub(super) fn starts_listener(&self) -> bool {
        !self.listener.swap(true, Ordering::Relaxed)
    }

    /// The same of the task that tells stats.
    pub(super) fn starts_teller(&self) -> bool {
        !self.teller.swap(true, Ordering::Relaxed)
    }

    pub(super) fn set_hearing(&self, is_hearing: bool) {
        self.is_hearing.send_replace(is_hearing);
    }

    /// Follows whether announcements are heard at the moment.
    pub(super) fn hearing(&self) -> watch::Receiver<bool> {
        self.is_hearing.subscribe()
    }
}
