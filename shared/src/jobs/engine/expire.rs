//! Leases that expired: what the row says decides, and a started attempt is concluded `lost` before the job may run again.

use super::{
    Nonce, Standing,
    outcome::{Delivery, Outcome, RETURNS_MAX, conclude},
    scripts::{self, Action, Expired, Finish, QueueKeys},
    settle::{Settled, resync, write},
    store::RowStanding,
    token::Token,
    volatile::{Record, Stands},
};
use crate::redis::Connection;
use crate::{Context, Error, Result, ids::JobId, telemetry::metrics};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// Jobs promoted, and leases looked at, by one call; while either is full the next call follows at once.
const SWEEP_LIMIT: usize = 200;

/// What one sweep of a queue found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Whether this Redis is the one that the queue was loaded into; if not, it must be rebuilt.
    pub is_known: bool,
    /// Whether its rebuild has not come to its end; whose leader is gone must be made anew.
    pub is_rebuilding: bool,
    /// Nothing is leased or delayed: time changes nothing until the doorbell rings.
    pub is_at_rest: bool,
    pub has_more: bool,
}

/// Makes due jobs ready, and leaves expired leases alone: after an outage, their holders get to extend them first.
pub async fn promote(connection: &mut Connection, keys: &QueueKeys) -> Result<Swept> {
    let swept = scripts::sweep(connection, keys, SWEEP_LIMIT).await?;
    let has_more = swept.n_promoted >= SWEEP_LIMIT;
    Ok(Swept { is_known: swept.known, is_rebuilding: swept.rebuilding, is_at_rest: swept.at_rest, has_more })
}

/// Makes due jobs ready, and deals with expired leases.
pub async fn sweep(ctx: &Context, connection: &mut Connection, keys: &QueueKeys) -> Result<Swept> {
    let swept = scripts::sweep(connection, keys, SWEEP_LIMIT).await?;
    let (is_known, is_rebuilding, is_at_rest) = (swept.known, swept.rebuilding, swept.at_rest);
    let has_more = swept.n_promoted >= SWEEP_LIMIT || swept.expired.len() >= SWEEP_LIMIT;
    if !swept.expired.is_empty() {
        return_expired(ctx, keys, swept.expired).await?;
    }
    Ok(Swept { is_known, is_rebuilding, is_at_rest, has_more })
}

/// Ends expired leases as their rows say.
async fn return_expired(ctx: &Context, keys: &QueueKeys, expired: Vec<Expired>) -> Result<()> {
    let ids: Vec<JobId> = expired.iter().map(|lease| lease.token.job_id).collect();
    let leased: Vec<_> = expired.iter().map(|lease| (lease.token.job_id, lease.standing)).collect();
    let stands = Stands::read(ctx, keys, &ids, &leased).await?;
    let leader = Nonce::new();
    let tokens: HashMap<JobId, Token> = expired.iter().map(|lease| (lease.token.job_id, lease.token)).collect();
    let (mut finishes, mut conclusions) = (Vec::new(), Vec::new());
    for lease in expired {
        let job_id = lease.token.job_id;
        match next(&lease, stands.rows.get(&job_id)) {
            Next::Finish(finish) => finishes.push(finish),
            Next::Conclude(outcome, row) => {
                let delivery = delivery(lease, outcome.name(), row, leader, stands.records.get(&job_id).cloned());
                conclusions.push(conclude(delivery, outcome, ctx.clock.now(), rand::random()));
            }
        }
    }
    ::metrics::counter!(metrics::JOB_LEASES_LOST, "at" => "expiry").increment(conclusions.len() as u64);
    // Ours to write, but the lease in Redis is its holder's: it ends under the holder's token.
    let written = write(ctx, &conclusions).await.map_err(Error::from)?;
    finishes.extend(written.into_iter().map(|Settled { finish, .. }| Finish { token: tokens[&finish.token.job_id], ..finish }));
    super::apply(ctx, keys, finishes).await
}

enum Next<'a> {
    Finish(Finish),
    Conclude(Outcome, &'a RowStanding),
}

fn next<'a>(lease: &Expired, row: Option<&'a RowStanding>) -> Next<'a> {
    let is_open = |row: &&RowStanding| row.state == "pending" && row.standing.attempt < lease.token.attempt;
    match row.filter(is_open) {
        None => Next::Finish(resync(lease.token, lease.standing, row)),
        Some(row) if row.is_cancel_requested => Next::Conclude(Outcome::Cancelled, row),
        Some(row) if lease.started => match overrun(lease, row) {
            Some(limit) => Next::Conclude(Outcome::Timeout { limit }, row),
            None => Next::Conclude(Outcome::Lost, row),
        },
        Some(row) if lease.standing.returns >= RETURNS_MAX => Next::Conclude(Outcome::Undeliverable, row),
        Some(_) => {
            let standing = Standing { returns: lease.standing.returns + 1, ..lease.standing };
            Next::Finish(Finish { token: lease.token, action: Action::Return, standing })
        }
    }
}

/// The time of a job that nobody but us can stop, where its lease ended with that: a remote worker has overrun it, and was not lost.
fn overrun(lease: &Expired, row: &RowStanding) -> Option<Duration> {
    let limit = Duration::from_millis(u64::try_from(row.timeout_ms?).ok()?);
    (lease.expired_at? == lease.since? + limit).then_some(limit)
}

fn delivery(lease: Expired, outcome: &'static str, row: &RowStanding, leader: Nonce, record: Option<Arc<Record>>) -> Delivery {
    tracing::warn!(job_id = %lease.token.job_id, attempt = lease.token.attempt, worker_id = lease.worker_id, outcome, "a lease expired");
    Delivery {
        token: Token { nonce: leader, ..lease.token },
        standing: Standing { attempt: lease.token.attempt, returns: lease.standing.returns, ..row.standing },
        retry: row.retry,
        worker_id: lease.worker_id,
        started_at: lease.since.filter(|_| lease.started),
        record,
    }
}
