//! From a leased copy to the worker: at once when the copy carries everything, by way of PostgreSQL otherwise.

use super::{
    super::{
        held::Signals,
        lane::delivered,
        load::{self, Draft, Loaded},
        rates,
    },
    Leaser,
};
use crate::vital::vital;
use std::sync::Arc;

impl Leaser {
    pub(super) fn deliver(&mut self, draft: Draft) {
        let signals = Arc::new(Signals::default());
        self.wiring.held.insert(delivered(&draft, &signals));
        self.hand_over(draft, signals);
    }

    fn hand_over(&mut self, draft: Draft, signals: Arc<Signals>) {
        let token = draft.token;
        let Some(job) = draft.into_job(signals) else { return };
        // The channel holds the whole prefetch; it is only full while lost deliveries still lie in it. One of them may be of this very
        // lease, made again after Redis forgot it: if that has started meanwhile, it settles what both stand for.
        let is_sent = self.wiring.jobs.as_ref().is_some_and(|jobs| jobs.try_send(Arc::new(job)).is_ok());
        if !is_sent && let Some(held) = self.wiring.held.remove_unstarted(token) {
            self.release(&held);
        }
    }

    /// Adds how long jobs waited to what all workers saw; what cannot be told is forgotten.
    pub(super) fn tell_pickups(&mut self) {
        let seen = self.meters.take_pickups();
        if seen.is_empty() {
            return;
        }
        let ctx = self.ctx.clone();
        tokio::spawn(async move {
            if let Err(error) = rates::add(&ctx, seen).await {
                tracing::debug!(%error, "how long jobs waited could not be told");
            }
        });
    }

    pub(super) fn load(&mut self, drafts: Vec<Draft>) {
        if drafts.is_empty() {
            return;
        }
        for draft in &drafts {
            self.wiring.held.insert(delivered(draft, &Arc::new(Signals::default())));
        }
        let (ctx, give_up, loaded) = (self.ctx.clone(), self.wiring.give_up.clone(), self.loaded.0.clone());
        let loading = async move {
            let rows = load::load(&ctx, drafts, &give_up).await;
            drop(loaded.send(rows).await);
        };
        // Else their leases would be extended for ever, and nobody would run them.
        tokio::spawn(vital("loading of payloads", loading));
    }

    pub(super) fn take_loaded(&mut self, loaded: Option<Loaded>) {
        let Some(loaded) = loaded else { return };
        for draft in loaded.complete {
            // Handed back or lost while it was loaded: no longer ours.
            if let Some(held) = self.wiring.held.get(draft.token) {
                self.hand_over(draft, held.signals);
            }
        }
        for finish in loaded.stale {
            if let Some(held) = self.wiring.held.remove(finish.token) {
                self.lanes.by_keys(&held.keys).finishes.push_back(finish);
            }
        }
    }
}
