//! The writers: what a beat has marked waits here for a connection, and goes to PostgreSQL a batch at a time.
//!
//! Marking does not wait for writing: what is marked during one commit gathers to the batch of the next. So the slower
//! PostgreSQL is, the larger its batches become, and the beats stay quick.

use super::{
    outcome::Conclusion,
    scripts::Finish,
    settle::{self, Settler},
};
use crate::{Context, telemetry::metrics};
use std::{collections::VecDeque, time::Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Connections. The second one is for a backlog: as long as one keeps up, sharing its commits costs less than having two.
const WRITERS: usize = 2;
/// Batches that may wait. What is marked no longer counts against the prefetch, so that this bounds what a worker holds
/// beyond it while PostgreSQL is slow or away.
const WAITING_BATCHES: usize = 4;

/// A connection that is free again, and what Redis must hear of its batch.
type Written = (Settler, Vec<Finish>);

pub(super) struct Writers {
    ctx: Context,
    give_up: CancellationToken,
    batch: usize,
    waiting: VecDeque<Conclusion>,
    idle: Vec<Settler>,
    written: (mpsc::Sender<Written>, mpsc::Receiver<Written>),
}

impl Writers {
    pub(super) fn new(ctx: Context, batch: usize, give_up: CancellationToken) -> Self {
        let idle = (0..WRITERS).map(|_| Settler::default()).collect();
        Self { ctx, give_up, batch, waiting: VecDeque::new(), idle, written: mpsc::channel(WRITERS) }
    }

    /// How many more outcomes may be marked.
    pub(super) fn room(&self) -> usize {
        (WAITING_BATCHES * self.batch).saturating_sub(self.waiting.len())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.idle.len() == WRITERS
    }

    /// Takes marked outcomes, and hands a batch to each connection that is free.
    pub(super) fn write(&mut self, marked: Vec<Conclusion>) {
        self.waiting.extend(marked);
        while self.is_worth_a_batch()
            && let Some(mut settler) = self.idle.pop()
        {
            let batch: Vec<Conclusion> = self.waiting.drain(..self.waiting.len().min(self.batch)).collect();
            let (ctx, give_up, written) = (self.ctx.clone(), self.give_up.clone(), self.written.0.clone());
            tokio::spawn(async move {
                let started = Instant::now();
                let finishes = settle::write_patiently(&ctx, &mut settler, batch, &give_up).await;
                ::metrics::histogram!(metrics::JOB_SETTLE).record(started.elapsed());
                drop(written.send((settler, finishes)).await);
            });
        }
    }

    fn is_worth_a_batch(&self) -> bool {
        let least = if self.idle.len() == WRITERS { 1 } else { self.batch };
        self.waiting.len() >= least
    }

    /// The next batch that was written.
    pub(super) async fn written(&mut self) -> Vec<Finish> {
        match self.written.1.recv().await {
            Some((settler, finishes)) => self.free(settler, finishes),
            // Never: a sender is kept here.
            None => std::future::pending().await,
        }
    }

    /// The same without waiting.
    pub(super) fn take_written(&mut self) -> Option<Vec<Finish>> {
        let (settler, finishes) = self.written.1.try_recv().ok()?;
        Some(self.free(settler, finishes))
    }

    fn free(&mut self, settler: Settler, finishes: Vec<Finish>) -> Vec<Finish> {
        self.idle.push(settler);
        self.write(Vec::new());
        finishes
    }
}
