//! The second beat of settling: conclusions into PostgreSQL, and what Redis must then hear of each.

use super::{
    Standing,
    outcome::{Conclusion, Delivery, Next, Outcome, conclude},
    relay::{self, Relay},
    scripts::{Action, Finish},
    store::{self, RowStanding, Successes, Written},
    token::Token,
};
use crate::{Context, Error, Result, ids::JobId, jobs::aftermath, pg, telemetry::metrics};
use sqlx::{Connection, PgConnection};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// A row that changed between the statement's snapshot and its lock is told again, at most so often.
const ROUNDS_MAX: usize = 5;

/// How the guarded statement took one conclusion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Written,
    /// By ourselves, in a statement whose answer got lost.
    WrittenBefore,
    /// The delivery had been given up: someone else concluded it, or the row is gone.
    Refused,
}

/// A conclusion that PostgreSQL has dealt with, and what Redis must hear of it.
#[derive(Debug, Clone)]
pub(super) struct Settled {
    pub(super) verdict: Verdict,
    pub(super) finish: Finish,
}

impl Settled {
    /// Says so when work was done in vain.
    fn note(self) -> Finish {
        if self.verdict == Verdict::Refused {
            let Token { job_id, attempt, .. } = self.finish.token;
            ::metrics::counter!(metrics::JOB_LEASES_LOST, "at" => "conclusion").increment(1);
            tracing::warn!(%job_id, attempt, "an outcome was refused: its delivery had been given up");
        }
        self.finish
    }
}

/// A connection for outcomes alone, kept between batches: the pool's would be tested after each.
#[derive(Debug, Default)]
pub(super) struct Settler {
    connection: Option<PgConnection>,
    used_at: Option<Instant>,
    relay: Option<Arc<dyn Relay>>,
}

impl Settler {
    /// One that is connected, if PostgreSQL answers.
    pub(super) async fn open(ctx: &Context) -> Self {
        Self { connection: pg::connect_by_index(&ctx.settings()).await.ok(), used_at: Some(Instant::now()), relay: None }
    }

    /// One that connects by itself only when it must.
    pub(super) fn relayed(relay: Arc<dyn Relay>) -> Self {
        Self { relay: Some(relay), ..Self::default() }
    }

    pub(super) async fn succeed(&mut self, ctx: &Context, successes: &Successes<'_>) -> sqlx::Result<Vec<Written>> {
        let mut connection = self.connect(ctx).await?;
        let written = store::succeed(&mut connection, successes).await;
        if let Ok(written) = &written {
            aftermath::note(ctx, written.iter().map(|written| (written.awaited, written.batch_id)));
        }
        self.keep(connection, written.as_ref().err());
        written
    }

    /// After any other failure than a refusal of the data the connection may be broken.
    fn keep(&mut self, connection: PgConnection, error: Option<&sqlx::Error>) {
        if error.is_none_or(is_about_data) {
            self.connection = Some(connection);
            self.used_at = Some(Instant::now());
        }
    }

    async fn write(&mut self, ctx: &Context, conclusions: &[Conclusion]) -> sqlx::Result<Vec<Settled>> {
        let mut conclusions: Vec<&Conclusion> = conclusions.iter().collect();
        // One order for all writers: two batches that meet wait for each other instead of deadlocking.
        conclusions.sort_unstable_by_key(|conclusion| conclusion.delivery.token.job_id);
        let mut settled = self.relay(&mut conclusions).await;
        if !conclusions.is_empty() {
            settled.extend(self.write_here(ctx, &conclusions).await?);
        }
        Ok(settled)
    }

    /// Has another process write what it can, and takes that out of `conclusions`.
    async fn relay(&self, conclusions: &mut Vec<&Conclusion>) -> Vec<Settled> {
        let Some(relay) = self.relay.as_ref().filter(|_| conclusions.iter().all(|c| c.delivery.record.is_none())) else {
            return Vec::new();
        };
        let Some(batch) = Successes::of(conclusions).and_then(|successes| relay::encode(&successes)) else { return Vec::new() };
        let Some(unwritten) = relay.write(batch).await else { return Vec::new() };
        let unwritten: HashSet<JobId> = unwritten.into_iter().collect();
        let (rest, written): (Vec<_>, Vec<_>) = conclusions.iter().partition(|c| unwritten.contains(&c.delivery.token.job_id));
        *conclusions = rest;
        let settled = |conclusion: &Conclusion| {
            // Who waits for it, and its batch, are the concern of the process that wrote it.
            let (id, state) = (conclusion.delivery.token.job_id, "succeeded".to_owned());
            let written = Written { id, state, awaited: false, batch_id: None };
            Settled { verdict: Verdict::Written, finish: finish_written(conclusion, &written) }
        };
        written.into_iter().map(settled).collect()
    }

    async fn write_here(&mut self, ctx: &Context, conclusions: &[&Conclusion]) -> sqlx::Result<Vec<Settled>> {
        let mut connection = self.connect(ctx).await?;
        let written = write_on(ctx, &mut connection, conclusions).await;
        self.keep(connection, written.as_ref().err());
        written
    }

    /// The kept connection, if it still is one, else a new one.
    async fn connect(&mut self, ctx: &Context) -> sqlx::Result<PgConnection> {
        if let Some(mut connection) = self.connection.take()
            && (self.used_at.is_some_and(|used_at| used_at.elapsed() < pg::TRUSTED_FOR) || connection.ping().await.is_ok())
        {
            return Ok(connection);
        }
        pg::connect_by_index(&ctx.settings()).await
    }
}

/// Writes until it is done or `give_up` fires; PostgreSQL may be away meanwhile. Returns what was concluded.
pub(super) async fn write_patiently(
    ctx: &Context,
    settler: &mut Settler,
    conclusions: Vec<Conclusion>,
    give_up: &CancellationToken,
) -> Vec<Finish> {
    let mut pause = Duration::from_millis(50);
    let mut finished = Vec::with_capacity(conclusions.len());
    // Halves of a batch that was refused for its data; the last one is written next.
    let mut batches = vec![conclusions];
    while let Some(batch) = batches.pop() {
        match settler.write(ctx, &batch).await {
            Ok(settled) => {
                finished.extend(settled.into_iter().map(Settled::note));
                pause = Duration::from_millis(50);
            }
            Err(error) if is_about_data(&error) => batches.extend(without_the_bad(ctx, batch, &error)),
            Err(error) => {
                tracing::warn!(%error, n_outcomes = batch.len(), "outcomes could not be written; they are kept and written again");
                batches.push(batch);
                tokio::select! {
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(1)),
                    () = give_up.cancelled() => return finished,
                }
            }
        }
    }
    finished
}

/// Writes without waiting for servers that are away; what is refused for its data is dead. After an error some may be written.
pub(super) async fn write_once(ctx: &Context, conclusions: Vec<Conclusion>) -> sqlx::Result<Vec<Settled>> {
    let mut settled = Vec::with_capacity(conclusions.len());
    let mut batches = vec![conclusions];
    while let Some(batch) = batches.pop() {
        match write(ctx, &batch).await {
            Ok(written) => settled.extend(written),
            Err(error) if is_about_data(&error) => batches.extend(without_the_bad(ctx, batch, &error)),
            Err(error) => return Err(error),
        }
    }
    Ok(settled)
}

/// Two halves; or, of a batch of one, the same job dead with `result_rejected`.
fn without_the_bad(ctx: &Context, mut batch: Vec<Conclusion>, error: &sqlx::Error) -> Vec<Vec<Conclusion>> {
    if batch.len() > 1 {
        let half = batch.split_off(batch.len() / 2);
        return vec![batch, half];
    }
    let Some(conclusion) = batch.pop() else { return Vec::new() };
    let job_id = conclusion.delivery.token.job_id;
    if conclusion.error.as_ref().is_some_and(|error| error.code == "result_rejected") {
        tracing::error!(%job_id, %error, "not even the rejection of its result could be written; the job's lease is left to expire");
        return Vec::new();
    }
    tracing::warn!(%job_id, %error, "the database refused an outcome; the job is dead");
    let rejected = Outcome::ResultRejected("the database refused it".to_owned());
    vec![vec![conclude(conclusion.delivery, rejected, ctx.clock.now(), 1.0)]]
}

/// Whether the statement was refused for what it holds (class 22, 23) or for how complex that is (class 54).
fn is_about_data(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code.starts_with("22") || code.starts_with("23") || code.starts_with("54"))
}

/// Writes a batch once, on a connection of the pool.
pub(super) async fn write(ctx: &Context, conclusions: &[Conclusion]) -> sqlx::Result<Vec<Settled>> {
    write_on(ctx, &mut *ctx.pg.acquire().await?, &conclusions.iter().collect::<Vec<_>>()).await
}

/// Redis hears what was told when it was written, and how the row stands when it was refused.
pub(super) async fn write_on(ctx: &Context, pg: &mut PgConnection, conclusions: &[&Conclusion]) -> sqlx::Result<Vec<Settled>> {
    let (volatile, durable): (Vec<&Conclusion>, Vec<&Conclusion>) = conclusions.iter().partition(|c| c.delivery.record.is_some());
    let mut finished = if volatile.is_empty() { Vec::with_capacity(durable.len()) } else { write_volatile(pg, volatile).await? };
    if durable.is_empty() {
        return Ok(finished);
    }
    let mut open: HashMap<JobId, &Conclusion> = durable.into_iter().map(|c| (c.delivery.token.job_id, c)).collect();
    for _ in 0..ROUNDS_MAX {
        let mut batch: Vec<&Conclusion> = open.values().copied().collect();
        // One order for all writers: two batches that meet wait for each other instead of deadlocking.
        batch.sort_unstable_by_key(|conclusion| conclusion.delivery.token.job_id);
        let told = store::conclude(pg, &batch).await?;
        aftermath::note(ctx, told.iter().map(|written| (written.awaited, written.batch_id)));
        for written in told {
            if let Some(conclusion) = open.remove(&written.id) {
                finished.push(Settled { verdict: Verdict::Written, finish: finish_written(conclusion, &written) });
            }
        }
        if open.is_empty() {
            return Ok(finished);
        }
        let ids: Vec<JobId> = open.keys().copied().collect();
        let mut rows: HashMap<JobId, RowStanding> = store::standings(&mut *pg, &ids).await?.into_iter().map(|row| (row.id, row)).collect();
        for id in ids {
            let conclusion = open[&id];
            let row = rows.remove(&id);
            let attempt = conclusion.delivery.token.attempt;
            let is_still_open = row.as_ref().is_some_and(|row| row.state == "pending" && row.standing.attempt < attempt);
            if !is_still_open {
                open.remove(&id);
                finished.push(unwritten(conclusion, row.as_ref()));
            }
        }
        if open.is_empty() {
            return Ok(finished);
        }
    }
    Err(sqlx::Error::Protocol(format!("{} rows kept changing under their conclusions", open.len())))
}

/// The same for jobs that have no row until they end.
async fn write_volatile(pg: &mut PgConnection, mut conclusions: Vec<&Conclusion>) -> sqlx::Result<Vec<Settled>> {
    conclusions.sort_unstable_by_key(|conclusion| conclusion.delivery.token.job_id);
    let written = store::conclude_volatile(pg, &conclusions).await?;
    let written: HashMap<JobId, Written> = written.into_iter().map(|written| (written.id, written)).collect();
    let (mut settled, mut refused) = (Vec::with_capacity(conclusions.len()), Vec::new());
    for conclusion in conclusions {
        match written.get(&conclusion.delivery.token.job_id) {
            Some(written) => settled.push(Settled { verdict: Verdict::Written, finish: finish_written(conclusion, written) }),
            None => refused.push(conclusion),
        }
    }
    if refused.is_empty() {
        return Ok(settled);
    }
    let ids: Vec<JobId> = refused.iter().map(|conclusion| conclusion.delivery.token.job_id).collect();
    let rows: HashMap<JobId, RowStanding> = store::standings(&mut *pg, &ids).await?.into_iter().map(|row| (row.id, row)).collect();
    let last_attempts: HashMap<JobId, i32> = store::last_attempts(pg, &ids).await?.into_iter().collect();
    settled.extend(refused.into_iter().map(|conclusion| {
        let job_id = conclusion.delivery.token.job_id;
        match rows.get(&job_id) {
            Some(row) => unwritten(conclusion, Some(row)),
            None => outrun(conclusion, last_attempts.get(&job_id).copied()),
        }
    }));
    Ok(settled)
}

/// Its attempt is noted already, and the job has not ended. If it still holds the lease, then Redis came back with an older state:
/// the job runs again, under a number above all that are noted.
fn outrun(conclusion: &Conclusion, last_attempt: Option<i32>) -> Settled {
    let Delivery { token, standing, .. } = &conclusion.delivery;
    let standing = Standing { attempt: token.attempt.max(last_attempt.unwrap_or(0)), ..*standing };
    let action = Action::Requeue { run_at: conclusion.finished_at };
    Settled { verdict: Verdict::Refused, finish: Finish { token: *token, action, standing } }
}

fn finish_written(conclusion: &Conclusion, written: &Written) -> Finish {
    let mut standing = conclusion.standing;
    let action = match (conclusion.next, ended_state(&written.state)) {
        (_, Some(state)) => Action::End { state },
        (Next::Pending { run_at }, None) => Action::Requeue { run_at },
        (Next::Ended(state), None) => Action::End { state },
    };
    standing.attempt = conclusion.delivery.token.attempt;
    Finish { token: conclusion.delivery.token, action, standing }
}

/// The row was concluded already: by someone else, or by ourselves in a statement whose answer got lost.
fn unwritten(conclusion: &Conclusion, row: Option<&RowStanding>) -> Settled {
    let token = conclusion.delivery.token;
    let is_ours = row.is_some_and(|row| row.nonce == Some(token.nonce) && row.standing.attempt == token.attempt);
    let verdict = if is_ours { Verdict::WrittenBefore } else { Verdict::Refused };
    Settled { verdict, finish: resync(token, conclusion.standing, row) }
}

/// Redis as the row stands.
pub(super) fn resync(token: Token, standing: Standing, row: Option<&RowStanding>) -> Finish {
    match row {
        Some(row) if row.state == "pending" => Finish { token, action: Action::Requeue { run_at: row.run_at }, standing: row.standing },
        Some(row) => Finish { token, action: Action::End { state: ended_state(&row.state).unwrap_or("") }, standing: row.standing },
        None => Finish { token, action: Action::End { state: "" }, standing },
    }
}

pub(super) fn ended_state(state: &str) -> Option<&'static str> {
    ["succeeded", "dead", "cancelled", "expired"].into_iter().find(|ended| *ended == state)
}

/// Writes one conclusion and tells Redis; for the few that are not on the workers' way.
pub(super) async fn conclude_now(ctx: &Context, keys: &super::QueueKeys, conclusion: Conclusion) -> Result<Option<Settled>> {
    let settled = write(ctx, &[conclusion]).await.map_err(Error::from)?.pop();
    if let Some(settled) = &settled {
        super::apply(ctx, keys, vec![settled.finish.clone()]).await?;
    }
    Ok(settled)
}
