//! Jobs that wait for a word from outside: an attempt gives a token away, parks its job, and ends; whoever has the token concludes the
//! attempt, once. Nothing of it is in Redis.
//!
//! A parked row is `waiting` and has its attempt's number, so that no worker concludes it any more: what the worker that parked it says
//! is refused as said before, and Redis drops its copy. A token may also come while its attempt is under way: it then concludes that
//! attempt, and the worker is refused.

use super::{
    Standing, cancel, followers,
    held::LeasedJob,
    outcome::{Delivery, Outcome, conclude},
    reconcile,
    scripts::{Action, Taken},
    settle::{Verdict, write_on},
    store::{self, parking as rows},
    token::{Nonce, Token},
};
use crate::{Context, Error, Result, clock::unix_ms, ids::JobId, jobs::QueueName};
use sqlx::PgConnection;
use time::OffsetDateTime;

/// What concludes a job that no worker does.
const OUTSIDER: &str = "callback";

/// Gives away the right to conclude this attempt, until `expires_at`.
pub async fn issue(ctx: &Context, job: &LeasedJob, token_hash: &[u8], expires_at: OffsetDateTime) -> Result<()> {
    Ok(rows::insert(&ctx.pg, token_hash, (job.id(), job.token.attempt), ctx.clock.now(), expires_at).await?)
}

/// Takes it back: the attempt concludes itself.
pub async fn withdraw(ctx: &Context, token_hash: &[u8]) -> Result<()> {
    Ok(rows::delete(&ctx.pg, token_hash).await?)
}

/// Parks the job of a running attempt. What its worker concludes afterwards changes nothing; where the job could not be parked it does:
/// it was concluded meanwhile, or its cancel was asked for, and comes back at once.
pub async fn park(ctx: &Context, job: &LeasedJob, token_hash: &[u8], until: OffsetDateTime) -> Result<Outcome> {
    let mut tx = ctx.pg.begin().await?;
    let is_parked = rows::extend(&mut tx, token_hash, until).await? && rows::park(&mut tx, job.token, until).await?;
    if !is_parked {
        return Ok(Outcome::Postpone(std::time::Duration::ZERO));
    }
    tx.commit().await?;
    tell(ctx, &job.keys.queue, job.token, "waiting").await;
    Ok(Outcome::Parked)
}

/// Concludes what a token is about; `None` for one that is unknown, used, expired or of a job that went on without it.
pub async fn settle(ctx: &Context, token_hash: &[u8], outcome: Outcome) -> Result<Option<JobId>> {
    let mut tx = ctx.pg.begin().await?;
    let Some(callback) = rows::take(&mut tx, token_hash, ctx.clock.now()).await? else { return Ok(None) };
    let Some(concluded) = conclude_in(ctx, &mut tx, &callback, outcome).await? else { return Ok(None) };
    tx.commit().await?;
    concluded.follow_up(ctx).await;
    Ok(Some(callback.job_id))
}

/// Fails up to `limit` attempts whose callback did not come in time; returns how many were looked at.
pub async fn expire(ctx: &Context, limit: usize) -> Result<usize> {
    for n_done in 0..limit {
        let mut tx = ctx.pg.begin().await?;
        let Some(callback) = rows::take_expired(&mut tx, ctx.clock.now()).await? else { return Ok(n_done) };
        let outcome = Outcome::retry("callback_expired", "nobody called back in time");
        // A token that its worker did not live to take back is of no attempt that waits.
        let is_of_wait = |row: &rows::LiveRow| row.is_parked && row.attempt == callback.attempt;
        let concluded = match rows::lock(&mut tx, callback.job_id).await? {
            Some(row) if is_of_wait(&row) => conclude_in(ctx, &mut tx, &callback, outcome).await?,
            Some(_) | None => None,
        };
        tx.commit().await?;
        if let Some(concluded) = concluded {
            tracing::info!(job_id = %callback.job_id, attempt = callback.attempt, "a callback did not come in time");
            concluded.follow_up(ctx).await;
        }
    }
    Ok(limit)
}

/// An attempt that this transaction concludes.
struct Concluded {
    queue: QueueName,
    token: Token,
    action: Action,
}

async fn conclude_in(ctx: &Context, tx: &mut PgConnection, callback: &rows::Callback, outcome: Outcome) -> Result<Option<Concluded>> {
    let job_id = callback.job_id;
    let Some(row) = rows::lock(tx, job_id).await? else { return Ok(None) };
    let attempt = match (row.is_parked, row.attempt < callback.attempt) {
        // Whichever delivery the token came with: the receiver is done.
        (true, _) => row.attempt,
        (false, true) => callback.attempt,
        (false, false) => return Ok(None),
    };
    if row.is_parked {
        rows::reopen(tx, job_id).await?;
    }
    let Some(standing) = store::standings(&mut *tx, &[job_id]).await?.pop() else { return Ok(None) };
    let token = Token { job_id, attempt, nonce: Nonce::new() };
    let delivery = Delivery {
        token,
        standing: Standing { attempt, ..standing.standing },
        retry: standing.retry,
        worker_id: OUTSIDER.to_owned(),
        started_at: Some(callback.started_at),
        record: None,
    };
    let settled = write_on(ctx, tx, &[&conclude(delivery, outcome, ctx.clock.now(), rand::random())]).await?;
    let written = settled.into_iter().find(|settled| settled.verdict == Verdict::Written);
    let queue = QueueName::new(&row.queue)?;
    Ok(written.map(|settled| Concluded { queue, token, action: settled.finish.action }))
}

impl Concluded {
    /// What the scripts do where a worker concludes. Without it the reconciler puts Redis right, and waiting callers poll.
    async fn follow_up(self, ctx: &Context) {
        let event = match &self.action {
            Action::End { state } => *state,
            Action::Requeue { .. } | Action::Release | Action::Return => "requeued",
        };
        if let Err(error) = self.put_right(ctx).await {
            tracing::debug!(%error, job_id = %self.token.job_id, "Redis hears of a callback from the reconciler");
        }
        tell(ctx, &self.queue, self.token, event).await;
    }

    async fn put_right(&self, ctx: &Context) -> Result<()> {
        let Token { job_id, .. } = self.token;
        let Action::End { state } = self.action else {
            return reconcile::announce(ctx, &self.queue, &[job_id]).await.map(drop);
        };
        // A copy that went back to its list while the callback was on its way. One that a worker has ends with its conclusion.
        if let Taken::Taken(token, standing) = cancel::take_to_delete(ctx, &self.queue, job_id).await? {
            cancel::forget(ctx, &self.queue, token, standing).await?;
        }
        let mut cmd = redis::cmd("PUBLISH");
        cmd.arg(ctx.keys.job_ends()).arg(format!("{job_id} {state}"));
        cmd.exec_async(&mut ctx.redis.connection()).await.map_err(Error::from)
    }
}

async fn tell(ctx: &Context, queue: &QueueName, token: Token, event: &str) {
    let Token { job_id, attempt, .. } = token;
    let line = format!("{job_id} {event} {attempt} {}", unix_ms(ctx.clock.now()));
    if let Err(error) = followers::tell(ctx, queue, &[(job_id, line)]).await {
        tracing::debug!(%error, %job_id, "who follows a job that waits does not hear of it");
    }
}
