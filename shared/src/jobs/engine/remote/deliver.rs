//! From leased copies to the jobs that a remote worker gets: read from their rows, so that nothing is run that has ended.

use super::{
    super::{
        Standing, apply,
        load::Draft,
        outcome::{Delivery, Outcome, conclude},
        scripts::{self, Action, Finish, Leased, Step},
        settle::{resync, write},
        store::{self, RowStanding},
        token::Token,
        volatile::Live,
    },
    desk::Batch,
};
use crate::{
    Context, Error, Result,
    ids::JobId,
    jobs::{
        Job, JobKind,
        engine::Lease,
        store::read::{JobRow, live_jobs_by_ids},
        volatile::row_of,
    },
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use time::OffsetDateTime;

/// A job of a kind that the worker does not take goes back for so long.
const SET_ASIDE: Duration = Duration::from_secs(1);

/// A job on its way to a worker.
#[derive(Debug)]
pub struct Delivered {
    pub token: Token,
    pub job: Job,
    /// Longest that the attempt may take.
    pub limit: Option<Duration>,
}

/// The jobs of a batch that the worker is to run: pending ones of its `kinds` (empty: any), up to `bytes_max` of payload but at
/// least one. What is not among them has been handed back or ended. An error hands back all.
pub async fn deliver(ctx: &Context, batch: Batch, kinds: &[JobKind], bytes_max: usize) -> Result<Vec<Delivered>> {
    let ids: Vec<JobId> = batch.leased().iter().map(|leased| leased.id).collect();
    let now = ctx.clock.now();
    let mut rows: HashMap<JobId, JobRow> = live_jobs_by_ids(&ctx.pg, &ids).await?.into_iter().map(|row| (row.id, row)).collect();
    let mut sorted = Sorted::new(kinds, bytes_max, now);
    for leased in batch.leased() {
        let draft = Draft::new(Arc::clone(&batch.keys), leased, batch.holder.nonce);
        let row = rows.remove(&leased.id).or_else(|| volatile_row(draft.as_ref()?, leased));
        sorted.sort(&batch, leased, draft, row);
    }
    let delivered = sorted.delivered(&batch.holder.worker_id)?;
    // Before anything is ended: what is started but comes back is handed back all the same.
    let started = delivered.iter().map(|delivered| delivered.token).collect();
    let step = Step { started, ..Step::default() };
    let mut connection = ctx.redis.connection();
    scripts::step(&mut connection, &batch.keys, &batch.holder, &step).await?;
    // A lease that would outlast its job ends with it.
    let ends_sooner = |delivered: &&Delivered| delivered.limit.is_some_and(|limit| limit < batch.holder.lease);
    let shorter: Vec<_> = delivered.iter().filter(ends_sooner).map(|delivered| (delivered.token, delivered.limit)).collect();
    if !shorter.is_empty() {
        scripts::heartbeat_within(&mut connection, &batch.keys, batch.holder.lease, &shorter).await?;
    }
    sorted.end_others(ctx, &batch).await?;
    batch.hand_over();
    Ok(delivered)
}

/// Of a job that has no row until it ends.
fn volatile_row(draft: &Draft, leased: &Leased) -> Option<JobRow> {
    let record = draft.record.as_ref()?;
    let standing = Standing { attempt: leased.standing.attempt - 1, ..leased.standing };
    Some(row_of(leased.id, Live { record: record.as_ref().clone(), standing, run_at: draft.run_at }))
}

/// A batch by what becomes of each of its jobs.
struct Sorted<'a> {
    kinds: &'a [JobKind],
    bytes_max: usize,
    n_bytes: usize,
    now: OffsetDateTime,
    runnable: Vec<(Token, JobRow, Option<Duration>)>,
    finishes: Vec<Finish>,
    /// Theirs is the last moment to start.
    expired: Vec<Delivery>,
    /// Their rows say something else than Redis.
    stale: Vec<(Token, Standing)>,
}

impl<'a> Sorted<'a> {
    fn new(kinds: &'a [JobKind], bytes_max: usize, now: OffsetDateTime) -> Self {
        let (runnable, finishes, expired, stale) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { kinds, bytes_max, n_bytes: 0, now, runnable, finishes, expired, stale }
    }

    fn sort(&mut self, batch: &Batch, leased: &Leased, draft: Option<Draft>, row: Option<JobRow>) {
        let token = batch.token(leased);
        let Some(draft) = draft else {
            tracing::error!(job_id = %leased.id, "a copy is unreadable; it comes back when its lease expires");
            return;
        };
        let Some(row) = row.filter(|row| row.is_pending() && row.attempt < token.attempt) else {
            return self.stale.push((token, leased.standing));
        };
        if draft.expires_at.is_some_and(|at| at <= self.now) {
            let worker_id = batch.holder.worker_id.clone();
            let (standing, retry, record) = (leased.standing, draft.retry, draft.record);
            return self.expired.push(Delivery { token, standing, retry, worker_id, started_at: None, record });
        }
        if !self.kinds.is_empty() && !self.kinds.contains(&draft.kind) {
            let release = batch.release(leased);
            return self.finishes.push(Finish { action: Action::Requeue { run_at: self.now + SET_ASIDE }, ..release });
        }
        let n_bytes = self.n_bytes + row.payload.0.get().len();
        if n_bytes > self.bytes_max && !self.runnable.is_empty() {
            return self.finishes.push(batch.release(leased));
        }
        self.n_bytes = n_bytes;
        self.runnable.push((token, row, draft.timeout));
    }

    fn delivered(&mut self, worker_id: &str) -> Result<Vec<Delivered>> {
        let rows = std::mem::take(&mut self.runnable).into_iter().map(|(token, row, limit)| {
            let lease = Lease {
                attempt: token.attempt,
                worker_id: worker_id.to_owned(),
                started: true,
                since: Some(self.now.truncate_to_millisecond()),
                progress: None,
            };
            Ok(Delivered { token, job: row.into_job(Some(lease), self.now)?, limit })
        });
        rows.collect()
    }

    async fn end_others(self, ctx: &Context, batch: &Batch) -> Result<()> {
        let mut finishes = self.finishes;
        if !self.expired.is_empty() {
            let conclusions: Vec<_> =
                self.expired.into_iter().map(|delivery| conclude(delivery, Outcome::Expired, self.now, 1.0)).collect();
            finishes.extend(write(ctx, &conclusions).await.map_err(Error::from)?.into_iter().map(|settled| settled.finish));
        }
        if !self.stale.is_empty() {
            let ids: Vec<JobId> = self.stale.iter().map(|(token, _)| token.job_id).collect();
            let rows = store::standings(&ctx.pg, &ids).await?;
            let rows: HashMap<JobId, RowStanding> = rows.into_iter().map(|row| (row.id, row)).collect();
            finishes.extend(self.stale.into_iter().map(|(token, standing)| resync(token, standing, rows.get(&token.job_id))));
        }
        if finishes.is_empty() { Ok(()) } else { apply(ctx, &batch.keys, finishes).await }
    }
}
