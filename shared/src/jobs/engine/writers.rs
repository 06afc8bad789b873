//! The writers: what a beat has marked waits here for a connection, and goes to PostgreSQL a batch at a time.
//!
//! Marking does not wait for writing: what is marked during one commit gathers to the batch of the next. So the slower
//! PostgreSQL is, the larger its batches become, and the beats stay quick.

use super::{
    outcome::Conclusion,
    relay::Relay,
    scripts::Finish,
    settle::{self, Settler},
};
use crate::{Context, telemetry::metrics, vital::vital};
use std::{collections::VecDeque, sync::Arc, time::Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Batches that may wait. What is marked no longer counts against the prefetch, so that this bounds what a worker holds
/// beyond it while PostgreSQL is slow or away.
const WAITING_BATCHES: usize = 4;

/// A connection that is free, and what Redis must hear of the batch it has written; `None` when it was only opened.
type Freed = (Settler, Option<Vec<Finish>>);

/// Of `n_writers` connections all but the first are for a backlog: as long as one keeps up, sharing its commits costs less than having two.
pub(super) struct Writers {
    ctx: Context,
    give_up: CancellationToken,
    batch: usize,
    waiting: VecDeque<Conclusion>,
    idle: Vec<Settler>,
    n_writing: usize,
    freed: (mpsc::Sender<Freed>, mpsc::Receiver<Freed>),
}

impl Writers {
    pub(super) fn new(ctx: Context, n_writers: usize, batch: usize, relay: Option<Arc<dyn Relay>>, give_up: CancellationToken) -> Self {
        let freed = mpsc::channel(n_writers);
        if let Some(relay) = relay {
            let idle = (0..n_writers).map(|_| Settler::relayed(Arc::clone(&relay))).collect();
            return Self { ctx, give_up, batch, waiting: VecDeque::new(), idle, n_writing: 0, freed };
        }
        // Opened ahead: signing in takes longer than most batches.
        for _ in 0..n_writers {
            let (ctx, freed) = (ctx.clone(), freed.0.clone());
            let opening = async move {
                let settler = Settler::open(&ctx).await;
                drop(freed.send((settler, None)).await);
            };
            tokio::spawn(vital("connecting of writers", opening));
        }
        Self { ctx, give_up, batch, waiting: VecDeque::new(), idle: Vec::with_capacity(n_writers), n_writing: 0, freed }
    }

    /// How many more outcomes may be marked.
    pub(super) fn room(&self) -> usize {
        (WAITING_BATCHES * self.batch).saturating_sub(self.waiting.len())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.n_writing == 0
    }

    /// Takes marked outcomes, and hands a batch to each connection that is free.
    pub(super) fn write(&mut self, marked: Vec<Conclusion>) {
        self.waiting.extend(marked);
        while self.is_worth_a_batch()
            && let Some(mut settler) = self.idle.pop()
        {
            self.n_writing += 1;
            let batch: Vec<Conclusion> = self.waiting.drain(..self.waiting.len().min(self.batch)).collect();
            let (ctx, give_up, freed) = (self.ctx.clone(), self.give_up.clone(), self.freed.0.clone());
            let writing = async move {
                let started = Instant::now();
                let finishes = settle::write_patiently(&ctx, &mut settler, batch, &give_up).await;
                ::metrics::histogram!(metrics::JOB_SETTLE).record(started.elapsed());
                drop(freed.send((settler, Some(finishes))).await);
            };
            // Else the batch would be in nobody's hands, and its leases extended for ever.
            tokio::spawn(vital("writing of outcomes", writing));
        }
    }

    fn is_worth_a_batch(&self) -> bool {
        let least = if self.n_writing == 0 { 1 } else { self.batch };
        self.waiting.len() >= least
    }

    /// The next batch that was written.
    pub(super) async fn written(&mut self) -> Vec<Finish> {
        loop {
            match self.freed.1.recv().await {
                Some(freed) => {
                    if let Some(finishes) = self.take(freed) {
                        return finishes;
                    }
                }
                // Never: a sender is kept here.
                None => std::future::pending().await,
            }
        }
    }

    /// The same without waiting.
    pub(super) fn take_written(&mut self) -> Option<Vec<Finish>> {
        while let Ok(freed) = self.freed.1.try_recv() {
            if let Some(finishes) = self.take(freed) {
                return Some(finishes);
            }
        }
        None
    }

    fn take(&mut self, (settler, finishes): Freed) -> Option<Vec<Finish>> {
        self.idle.push(settler);
        self.n_writing -= usize::from(finishes.is_some());
        self.write(Vec::new());
        finishes
    }
}
