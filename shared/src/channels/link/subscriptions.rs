//! Which channels the link listens to, and what it has yet to tell Redis of it. Pure: the task beside sends and hears.

use crate::channels::ChannelName;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};
use tokio::sync::oneshot;

/// Channels in one command.
pub(super) const BATCH_MAX: usize = 512;
/// Channels that were asked for and are not confirmed yet; more wait, so that Redis is not held up for others.
const UNANSWERED_MAX: usize = 4 * BATCH_MAX;
/// Waiters from which on those who gave up are looked for.
const WAITERS_BEFORE_SWEEP: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Subscribe,
    Unsubscribe,
}

/// A channel that is wanted.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: ChannelName,
    /// Of the last publication: kept so that it is not copied for each.
    pub(super) epoch: Arc<str>,
    is_confirmed: bool,
    waiters: Vec<u64>,
}

#[derive(Debug)]
struct Waiter {
    n_left: usize,
    done: oneshot::Sender<()>,
}

/// A pub/sub channel's name.
type Name = Arc<[u8]>;

#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    wanted: HashMap<Name, Entry>,
    waiters: HashMap<u64, Waiter>,
    next_waiter: u64,
    sweep_at: usize,
    to_send: VecDeque<(Verb, Name)>,
    /// SUBSCRIBEs on the way, by channel. One that was wanted, unwanted and wanted again has two, and counts as subscribed after
    /// the second answer: the first is of a subscription that has ended since.
    unanswered: HashMap<Name, usize>,
    n_unanswered: usize,
}

impl Subscriptions {
    pub(super) fn get_mut(&mut self, pubsub_channel: &[u8]) -> Option<&mut Entry> {
        self.wanted.get_mut(pubsub_channel)
    }

    /// Listens to channels, by pub/sub channel; `done` hears when all of them are confirmed.
    pub(super) fn want(&mut self, channels: impl IntoIterator<Item = (String, ChannelName)>, done: oneshot::Sender<()>) {
        let waiter = self.next_waiter;
        self.next_waiter += 1;
        if self.waiters.len() >= self.sweep_at {
            self.waiters.retain(|_, waiter| !waiter.done.is_closed());
            self.sweep_at = (2 * self.waiters.len()).max(WAITERS_BEFORE_SWEEP);
        }
        let mut n_left = 0;
        for (pubsub_channel, name) in channels {
            let pubsub_channel: Name = pubsub_channel.into_bytes().into();
            let entry = self.wanted.entry(Arc::clone(&pubsub_channel)).or_insert_with(|| {
                self.to_send.push_back((Verb::Subscribe, pubsub_channel));
                Entry { name, epoch: "".into(), is_confirmed: false, waiters: Vec::new() }
            });
            if !entry.is_confirmed && entry.waiters.last() != Some(&waiter) {
                // Whoever gave up waiting goes, or repeated attempts while Redis is away would pile up.
                entry.waiters.retain(|id| self.waiters.get(id).is_some_and(|waiter| !waiter.done.is_closed()));
                entry.waiters.push(waiter);
                n_left += 1;
            }
        }
        if n_left == 0 {
            // Whoever asked may be gone.
            let _ = done.send(());
        } else {
            self.waiters.insert(waiter, Waiter { n_left, done });
        }
    }

    /// Listens to channels no more. Whoever waits for one of them hears that it will not be.
    pub(super) fn unwant(&mut self, pubsub_channels: impl IntoIterator<Item = String>) {
        for pubsub_channel in pubsub_channels {
            let Some((pubsub_channel, entry)) = self.wanted.remove_entry(pubsub_channel.as_bytes()) else { continue };
            for waiter in entry.waiters {
                self.waiters.remove(&waiter);
            }
            self.to_send.push_back((Verb::Unsubscribe, pubsub_channel));
        }
    }

    /// The next command to send, in the order in which it was asked for; `None` while there is none, or too many are on the way.
    pub(super) fn next_batch(&mut self) -> Option<(Verb, Vec<Name>)> {
        let (verb, _) = *self.to_send.front()?;
        if verb == Verb::Subscribe && self.n_unanswered >= UNANSWERED_MAX {
            return None;
        }
        let mut names = Vec::new();
        while names.len() < BATCH_MAX
            && let Some((_, name)) = self.to_send.pop_front_if(|(next, _)| *next == verb)
        {
            if verb == Verb::Subscribe {
                *self.unanswered.entry(Arc::clone(&name)).or_default() += 1;
                self.n_unanswered += 1;
            }
            names.push(name);
        }
        Some((verb, names))
    }

    pub(super) fn confirm(&mut self, pubsub_channel: &[u8]) {
        let Some(n) = self.unanswered.get_mut(pubsub_channel) else { return };
        (*n, self.n_unanswered) = (*n - 1, self.n_unanswered - 1);
        if *n > 0 {
            return;
        }
        self.unanswered.remove(pubsub_channel);
        let Some(entry) = self.wanted.get_mut(pubsub_channel) else { return };
        entry.is_confirmed = true;
        for id in std::mem::take(&mut entry.waiters) {
            let Some(waiter) = self.waiters.get_mut(&id) else { continue };
            waiter.n_left -= 1;
            if waiter.n_left == 0
                && let Some(waiter) = self.waiters.remove(&id)
            {
                let _ = waiter.done.send(());
            }
        }
    }

    /// Whether the server listened for us, as far as we know: then nobody here has asked it to stop.
    pub(super) fn is_confirmed(&self, pubsub_channel: &[u8]) -> bool {
        self.wanted.get(pubsub_channel).is_some_and(|entry| entry.is_confirmed)
    }

    /// Forgets all of a connection that has ended, and asks for every channel again on the next. Those who wait go on waiting.
    pub(super) fn start_over(&mut self) {
        self.unanswered.clear();
        self.n_unanswered = 0;
        self.to_send = self.wanted.keys().map(|name| (Verb::Subscribe, Arc::clone(name))).collect();
        for entry in self.wanted.values_mut() {
            entry.is_confirmed = false;
        }
    }

    /// Whether Redis has been told everything, and has confirmed it.
    pub(super) fn is_settled(&self) -> bool {
        self.to_send.is_empty() && self.n_unanswered == 0
    }
}

#[cfg(test)]
mod tests;
