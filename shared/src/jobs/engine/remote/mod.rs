//! Leasing and settling for workers outside this platform: this process does for them what a child's leasing task does for its
//! own attempts, under the same protocol. Nothing of it is kept here but who waits for a job: a lease lives in Redis, under the
//! nonce of the session that asked for it, and so any process can settle it.
//!
//! [`desk`] (who waits, and one leasing call for all; `doubts` about calls that did not answer), [`deliver`] (from leased copies to whole jobs), [`mod@settle`] (from what a
//! worker says to a row).

pub mod deliver;
pub mod desk;
mod doubts;
pub mod settle;

use super::{QueueKeys, leases::LeaseText, progress, scripts, token::Token};
use crate::{
    Context, Result,
    ids::JobId,
    jobs::{Progress, QueueName, workers::ActiveJob},
};
use std::time::Duration;

/// What a heartbeat found of one queue's leases.
#[derive(Debug, Default)]
pub struct Beaten {
    pub lost: Vec<JobId>,
    pub cancels: Vec<JobId>,
}

/// Extends leases of one queue, and writes how far their jobs are; at most [`super::IDS_MAX`].
pub async fn beat(ctx: &Context, queue: &QueueName, tokens: &[Token], told: &[(Token, Progress)]) -> Result<Beaten> {
    let keys = QueueKeys::new(&ctx.keys, queue);
    let lease = Duration::from_millis(ctx.settings().worker_lease_ms);
    let mut connection = ctx.redis.connection();
    let (lost, cancels) = scripts::heartbeat(&mut connection, &keys, lease, tokens).await?;
    if !told.is_empty() {
        progress::write(&mut connection, &keys, told).await?;
    }
    Ok(Beaten { lost, cancels })
}

/// What runs under these leases, as workers are shown.
pub async fn active(ctx: &Context, queue: &QueueName, tokens: &[Token]) -> Result<Vec<ActiveJob>> {
    let keys = QueueKeys::new(&ctx.keys, queue);
    let ids: Vec<String> = tokens.iter().map(|token| token.job_id.to_string()).collect();
    let mut pipe = redis::pipe();
    pipe.cmd("HMGET").arg(keys.tok()).arg(&ids).cmd("HMGET").arg(keys.env()).arg(&ids);
    let (leases, envelopes): (Vec<Option<String>>, Vec<Option<Vec<u8>>>) = pipe.query_async(&mut ctx.redis.connection()).await?;
    let found = tokens.iter().zip(leases).zip(envelopes).filter_map(|((token, lease), envelope)| {
        let (lease, envelope) = (lease?, envelope?);
        let lease = LeaseText::parse(&lease).ok().filter(|lease| lease.nonce == token.nonce && lease.attempt == token.attempt)?;
        let kind = super::copy::kind_of(&envelope)?;
        Some(ActiveJob { job_id: token.job_id, kind, attempt: token.attempt, since: lease.since?, progress: lease.progress })
    });
    Ok(found.collect())
}
