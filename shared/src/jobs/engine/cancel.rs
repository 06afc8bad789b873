//! Taking one job out of the race from outside a worker: to cancel it, or to delete it.

use super::{
    Standing,
    outcome::{Delivery, Outcome, conclude},
    scripts::{self, Action, Finish, Holder, Purpose, QueueKeys, Taken},
    settle::{self, Settled},
    store::{self, RowStanding},
    token::{Nonce, Token},
    volatile,
};
use crate::{
    Code, Context, Result,
    ids::JobId,
    jobs::{QueueName, RetryPolicy, dependencies},
};
use std::{sync::Arc, time::Duration};

/// What the lease of a job says that no worker, but an operation has taken.
const OUTSIDER: &str = "api";

/// What a cancel came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelAnswer {
    /// It is cancelled.
    Cancelled,
    /// A worker runs it and has been told; or Redis is away and its next conclusion will see the request.
    Signalled,
    /// It was over before, in this state; `""` if the job is gone.
    Ended(&'static str),
}

/// Cancels a job whose `cancel_requested_at` is already committed.
pub async fn cancel(ctx: &Context, queue: &QueueName, job_id: JobId) -> Result<CancelAnswer> {
    let keys = QueueKeys::new(&ctx.keys, queue);
    let holder = outsider(ctx);
    let taken = scripts::take(&mut ctx.redis.connection(), &keys, &holder, job_id, Purpose::Cancel).await;
    let (token, standing) = match taken {
        Ok(Taken::Taken(token, standing)) => (token, standing),
        // A worker that has parked its job holds it for a moment longer.
        Ok(Taken::Running | Taken::Settling) => match parked(ctx, &holder, job_id).await? {
            Some(found) => found,
            None => return Ok(CancelAnswer::Signalled),
        },
        Ok(Taken::Absent) => match unqueued(ctx, &holder, job_id).await? {
            Ok(found) => found,
            Err(answer) => return Ok(answer),
        },
        Err(error) if error.code == Code::RedisUnavailable => {
            tracing::warn!(%job_id, %error, "a cancel could not be told; the job's next conclusion will see it");
            return Ok(CancelAnswer::Signalled);
        }
        Err(error) => return Err(error),
    };
    let settled = conclude_taken(ctx, &keys, token, standing, Outcome::Cancelled).await?;
    Ok(match settled.as_ref().map(|settled| &settled.finish.action) {
        Some(Action::End { state: "cancelled" }) => CancelAnswer::Cancelled,
        Some(Action::End { state }) => CancelAnswer::Ended(state),
        // Someone concluded it between; the request stands and is seen at the next conclusion.
        Some(Action::Requeue { .. } | Action::Release | Action::Return) | None => CancelAnswer::Signalled,
    })
}

/// Ends a waiting job in another way; one that a worker has is left alone.
pub(super) async fn take_and_conclude(ctx: &Context, queue: &QueueName, job_id: JobId, outcome: Outcome) -> Result<()> {
    let keys = QueueKeys::new(&ctx.keys, queue);
    let taken = scripts::take(&mut ctx.redis.connection(), &keys, &outsider(ctx), job_id, Purpose::Delete).await?;
    if let Taken::Taken(token, standing) = taken {
        conclude_taken(ctx, &keys, token, standing, outcome).await?;
    }
    Ok(())
}

/// What became of a waiting job that was to make way for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MadeWay {
    /// It is over.
    Ended,
    /// A worker has it; it was left alone.
    IsRunning,
}

/// Looks for a copy that is missing, and the pause between them: a job that was just written is announced a moment later.
const LOOKS: u32 = 5;
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Cancels a job that waits; one that a worker has is not even told.
pub async fn end_waiting(ctx: &Context, queue: &QueueName, job_id: JobId) -> Result<MadeWay> {
    let keys = QueueKeys::new(&ctx.keys, queue);
    let holder = outsider(ctx);
    for look in 1..=LOOKS {
        let (token, standing) = match scripts::take(&mut ctx.redis.connection(), &keys, &holder, job_id, Purpose::Delete).await? {
            Taken::Taken(token, standing) => (token, standing),
            Taken::Running | Taken::Settling => return Ok(MadeWay::IsRunning),
            Taken::Absent if look < LOOKS => {
                tokio::time::sleep(LOOK_PAUSE).await;
                continue;
            }
            Taken::Absent => match unqueued(ctx, &holder, job_id).await? {
                Ok(found) => found,
                Err(CancelAnswer::Signalled) => return Ok(MadeWay::IsRunning),
                Err(CancelAnswer::Cancelled | CancelAnswer::Ended(_)) => return Ok(MadeWay::Ended),
            },
        };
        let settled = conclude_taken(ctx, &keys, token, standing, Outcome::Cancelled).await?;
        return Ok(match settled.as_ref().map(|settled| &settled.finish.action) {
            Some(Action::End { .. }) => MadeWay::Ended,
            Some(Action::Requeue { .. } | Action::Release | Action::Return) | None => MadeWay::IsRunning,
        });
    }
    Ok(MadeWay::IsRunning)
}

async fn conclude_taken(ctx: &Context, keys: &QueueKeys, token: Token, standing: Standing, outcome: Outcome) -> Result<Option<Settled>> {
    let record = volatile::records(&mut ctx.redis.connection(), keys, &[token.job_id]).await?.remove(&token.job_id).map(Arc::new);
    // The policy does not matter: what is ended from outside is never retried.
    let delivery = Delivery { token, standing, retry: RetryPolicy::DEFAULT, worker_id: OUTSIDER.to_owned(), started_at: None, record };
    settle::conclude_now(ctx, keys, conclude(delivery, outcome, ctx.clock.now(), 1.0)).await
}

/// A job that Redis does not know: concluded by its row alone.
async fn unqueued(ctx: &Context, holder: &Holder, job_id: JobId) -> Result<std::result::Result<(Token, Standing), CancelAnswer>> {
    let rows = store::standings(&ctx.pg, &[job_id]).await?;
    let Some(row) = rows.first() else { return Ok(Err(CancelAnswer::Ended(""))) };
    if let Some(state) = settle::ended_state(&row.state) {
        return Ok(Err(if state == "cancelled" { CancelAnswer::Cancelled } else { CancelAnswer::Ended(state) }));
    }
    if row.state == "waiting" {
        if store::parking::wake(&ctx.pg, job_id).await? {
            return Ok(Ok(next_delivery(holder, row)));
        }
        // One that was released at this moment is found by its wish to be cancelled.
        let is_over = dependencies::cancel_waiting(ctx, job_id).await?;
        return Ok(Err(if is_over { CancelAnswer::Cancelled } else { CancelAnswer::Signalled }));
    }
    Ok(Ok(next_delivery(holder, row)))
}

/// A job that waits for a callback and whose cancel was asked for: it waits no longer.
async fn parked(ctx: &Context, holder: &Holder, job_id: JobId) -> Result<Option<(Token, Standing)>> {
    let rows = store::standings(&ctx.pg, &[job_id]).await?;
    let Some(row) = rows.first().filter(|row| row.state == "waiting") else { return Ok(None) };
    let is_woken = store::parking::wake(&ctx.pg, job_id).await?;
    Ok(is_woken.then(|| next_delivery(holder, row)))
}

fn next_delivery(holder: &Holder, row: &RowStanding) -> (Token, Standing) {
    let token = Token { job_id: row.id, attempt: row.standing.attempt + 1, nonce: holder.nonce };
    (token, Standing { attempt: token.attempt, ..row.standing })
}

/// Takes a waiting job, so that its row can be deleted; it goes back unspent after a lease's length unless [`forget`] follows.
pub async fn take_to_delete(ctx: &Context, queue: &QueueName, job_id: JobId) -> Result<Taken> {
    let keys = QueueKeys::new(&ctx.keys, queue);
    scripts::take(&mut ctx.redis.connection(), &keys, &outsider(ctx), job_id, Purpose::Delete).await
}

/// Drops the copy of a job whose row is gone.
pub async fn forget(ctx: &Context, queue: &QueueName, token: Token, standing: Standing) -> Result<()> {
    let keys = QueueKeys::new(&ctx.keys, queue);
    super::apply(ctx, &keys, vec![Finish { token, action: Action::End { state: "" }, standing }]).await
}

fn outsider(ctx: &Context) -> Holder {
    let lease = Duration::from_millis(ctx.settings().worker_lease_ms);
    Holder { nonce: Nonce::new(), worker_id: OUTSIDER.to_owned(), lease }
}
