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
use std::{collections::HashMap, time::Duration};
use time::OffsetDateTime;

/// What a heartbeat found of one queue's leases.
#[derive(Debug, Default)]
pub struct Beaten {
    pub lost: Vec<JobId>,
    pub cancels: Vec<JobId>,
    /// What runs under the leases that go on.
    pub active: Vec<ActiveJob>,
}

/// Extends leases of one queue, none beyond the time of its job, and writes how far their jobs are; at most [`super::IDS_MAX`]. A lease
/// whose job's time is over is as good as lost: the sweep concludes it as timed out.
pub async fn beat(ctx: &Context, queue: &QueueName, tokens: &[Token], told: &[(Token, Progress)]) -> Result<Beaten> {
    let keys = QueueKeys::new(&ctx.keys, queue);
    let (lease, held) = (Duration::from_millis(ctx.settings().worker_lease_ms), held(ctx, &keys, tokens).await?);
    let leases: Vec<_> = tokens.iter().map(|token| (*token, held.get(token).and_then(|held| held.limit))).collect();
    let mut connection = ctx.redis.connection();
    let (lost, cancels) = scripts::heartbeat_within(&mut connection, &keys, lease, &leases).await?;
    if !told.is_empty() {
        progress::write(&mut connection, &keys, told).await?;
    }
    let told: HashMap<&Token, &Progress> = told.iter().map(|(token, progress)| (token, progress)).collect();
    let goes_on = tokens.iter().filter(|token| !lost.contains(&token.job_id));
    let active = goes_on.filter_map(|token| held.get(token)?.active(*token, told.get(token).copied())).collect();
    Ok(Beaten { lost, cancels, active })
}

/// What Redis knows of a lease.
#[derive(Debug)]
struct Held {
    kind: String,
    since: Option<OffsetDateTime>,
    progress: Option<Progress>,
    limit: Option<Duration>,
}

impl Held {
    fn active(&self, token: Token, told: Option<&Progress>) -> Option<ActiveJob> {
        let progress = told.cloned().or_else(|| self.progress.clone());
        Some(ActiveJob { job_id: token.job_id, kind: self.kind.clone(), attempt: token.attempt, since: self.since?, progress })
    }
}

/// Those of these leases that hold.
async fn held(ctx: &Context, keys: &QueueKeys, tokens: &[Token]) -> Result<HashMap<Token, Held>> {
    let ids: Vec<String> = tokens.iter().map(|token| token.job_id.to_string()).collect();
    let mut pipe = redis::pipe();
    pipe.cmd("HMGET").arg(keys.tok()).arg(&ids).cmd("HMGET").arg(keys.env()).arg(&ids);
    let (leases, envelopes): (Vec<Option<String>>, Vec<Option<Vec<u8>>>) = pipe.query_async(&mut ctx.redis.connection()).await?;
    let found = tokens.iter().zip(leases).zip(envelopes).filter_map(|((token, lease), envelope)| {
        let (lease, envelope) = (lease?, envelope?);
        let lease = LeaseText::parse(&lease).ok().filter(|lease| lease.nonce == token.nonce && lease.attempt == token.attempt)?;
        let (kind, limit) = super::copy::kind_and_limit(&envelope)?;
        Some((*token, Held { kind, since: lease.since, progress: lease.progress, limit }))
    });
    Ok(found.collect())
}
