//! Finds jobs' rows by their ids: look-ups that arrive while the last one is under way share the next one.
//!
//! As with submits there is no linger: a lone look-up is sent at once, and a crowd finds itself in few statements, which
//! spares both sides most of the cost of talking. Each worker thread batches for itself, so that nobody wakes another thread.

mod days;

pub(super) use days::Lookups;

use super::store::{by_day, read, read::JobRow};
use crate::{Context, Error, Result, ids::JobId};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

/// Most ids in one statement.
const BATCH_MAX: usize = 256;
/// Statements under way at once; a second one keeps a slow one from holding up everybody.
const FLIGHTS_MAX: usize = 2;
/// `undefined_table`.
const NO_SUCH_TABLE: &str = "42P01";

/// The look-ups of one worker thread. Those in flight are bounded by the requests in flight.
#[derive(Debug, Default)]
pub struct LookupBatch(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Waiting>,
    n_flights: usize,
}

#[derive(Debug)]
struct Waiting {
    id: JobId,
    answer: oneshot::Sender<Result<Option<JobRow>>>,
}

/// The row of `id`, living or ended.
pub(super) async fn row_by_id(ctx: &Context, id: JobId) -> Result<Option<JobRow>> {
    let (answer, row) = oneshot::channel();
    if ctx.lookups.push(Waiting { id, answer }) {
        // A task of its own, so that a caller who goes away takes nobody along.
        tokio::spawn(Flight { ctx: ctx.clone(), is_over: false }.run());
    }
    row.await.unwrap_or_else(|_| Err(Error::internal("a look-up of jobs ended early")))
}

impl LookupBatch {
    /// `true` asks the caller to start a flight, which is already counted.
    fn push(&self, waiting: Waiting) -> bool {
        let mut state = self.lock();
        state.waiting.push(waiting);
        let start = state.n_flights < FLIGHTS_MAX;
        state.n_flights += usize::from(start);
        start
    }

    /// The next batch; without one the flight that asks is over, and counted out before anybody else can push.
    fn take(&self) -> Option<Vec<Waiting>> {
        let mut state = self.lock();
        if state.waiting.is_empty() {
            state.n_flights -= 1;
            return None;
        }
        let n_taken = state.waiting.len().min(BATCH_MAX);
        Some(state.waiting.drain(..n_taken).collect())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One flight; dropping it before its end (a panic, a stopping runtime) must leave nobody waiting for ever.
struct Flight {
    ctx: Context,
    is_over: bool,
}

impl Flight {
    async fn run(mut self) {
        while let Some(batch) = self.ctx.lookups.take() {
            answer(&self.ctx, batch).await;
        }
        self.is_over = true;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut state = self.ctx.lookups.lock();
        state.n_flights -= 1;
        if state.n_flights == 0 {
            state.waiting.clear();
        }
    }
}

/// Looks a batch up, one statement for each day in it (nearly always one in all), and answers everybody.
async fn answer(ctx: &Context, batch: Vec<Waiting>) {
    let mut by_statement: HashMap<Option<Arc<str>>, Vec<Waiting>> = HashMap::new();
    for waiting in batch {
        match days::sql_for(ctx, waiting.id).await {
            Ok(sql) => by_statement.entry(sql).or_default().push(waiting),
            Err(error) => drop(waiting.answer.send(Err(error))),
        }
    }
    for (sql, waiting) in by_statement {
        let ids = waiting.iter().map(|waiting| waiting.id).collect::<Vec<_>>();
        match rows(ctx, sql, &ids).await {
            Ok(rows) => hand_out(waiting, rows),
            Err(error) => hand_out_error(waiting, error),
        }
    }
}

async fn rows(ctx: &Context, sql: Option<Arc<str>>, ids: &[JobId]) -> Result<Vec<JobRow>> {
    let Some(sql) = sql else { return Ok(read::jobs_by_ids(&ctx.pg, ids).await?) };
    match by_day::jobs_by_lookup(&ctx.pg, &sql, ids).await {
        Err(error) if error.as_database_error().is_some_and(|e| e.code().as_deref() == Some(NO_SUCH_TABLE)) => {
            days::forget(ctx);
            Ok(read::jobs_by_ids(&ctx.pg, ids).await?)
        }
        rows => Ok(rows?),
    }
}

/// Each gets the row of its id; the last of those that asked for the same one gets it without a copy.
fn hand_out(waiting: Vec<Waiting>, rows: Vec<JobRow>) {
    let mut rows = rows.into_iter().map(|row| (row.id, row)).collect::<HashMap<_, _>>();
    let mut n_askers = HashMap::<JobId, usize>::with_capacity(waiting.len());
    for Waiting { id, .. } in &waiting {
        *n_askers.entry(*id).or_default() += 1;
    }
    for Waiting { id, answer } in waiting {
        let n_left = n_askers.get_mut(&id).expect("every id was counted");
        *n_left -= 1;
        let row = if *n_left == 0 { rows.remove(&id) } else { rows.get(&id).cloned() };
        // The caller may be gone.
        drop(answer.send(Ok(row)));
    }
}

/// The first gets the whole chain, for the log; the others the same words.
fn hand_out_error(waiting: Vec<Waiting>, error: Error) {
    let again = |error: &Error| Error { retry_after: error.retry_after, ..Error::new(error.code, error.detail.clone()) };
    let copies = waiting.iter().skip(1).map(|_| again(&error)).collect::<Vec<_>>();
    for (Waiting { answer, .. }, error) in waiting.into_iter().zip(std::iter::once(error).chain(copies)) {
        drop(answer.send(Err(error)));
    }
}
