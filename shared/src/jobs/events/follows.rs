//! Which jobs and queues this process follows.

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
    jobs: HashMap<JobId, QueueName>,
    queues: BTreeSet<QueueName>,
}

impl Follows {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add_job(&self, id: JobId, queue: QueueName) {
        self.lock().jobs.insert(id, queue);
    }

    pub(super) fn remove_job(&self, id: JobId) {
        self.lock().jobs.remove(&id);
    }

    pub(super) fn queue_of(&self, id: JobId) -> Option<QueueName> {
        self.lock().jobs.get(&id).cloned()
    }

    pub(super) fn jobs(&self) -> Vec<JobId> {
        self.lock().jobs.keys().copied().collect()
    }

    pub(super) fn jobs_by_queue(&self) -> HashMap<QueueName, Vec<JobId>> {
        let mut by_queue: HashMap<QueueName, Vec<JobId>> = HashMap::new();
        for (id, queue) in &self.lock().jobs {
            by_queue.entry(queue.clone()).or_default().push(*id);
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
