//! Leasing calls whose answers got lost: Redis may have leased jobs to workers that will never hear of them, and nobody else may have
//! these until they expire. So this process looks for them once Redis answers again, and hands them back unspent.

use super::super::{
    QueueKeys, Standing, apply,
    salvage::survey,
    scripts::{self, Action, Finish},
    token::Nonce,
};
use crate::{Context, Result, clock::unix_ms};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Pairs of queue and worker that are remembered; leases beyond them come back when they expire.
const DOUBTS_MAX: usize = 64;
/// Between the looks at one: the last calls may be late to run.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What was leased since may be on its way to the worker.
const ON_ITS_WAY_MS: i64 = 1_000;

#[derive(Debug)]
struct Doubt {
    keys: Arc<QueueKeys>,
    nonce: Nonce,
    look_at: Instant,
    /// Whether Redis has answered since; the next look is the last.
    has_answered: bool,
}

#[derive(Debug, Default)]
pub(super) struct Doubts(Vec<Doubt>);

impl Doubts {
    /// A call for this worker did not answer.
    pub(super) fn note(&mut self, keys: &Arc<QueueKeys>, nonce: Nonce) {
        let (look_at, is_full) = (Instant::now() + LOOK_EVERY, self.0.len() >= DOUBTS_MAX);
        match self.0.iter_mut().find(|doubt| doubt.nonce == nonce && doubt.keys.queue == keys.queue) {
            Some(doubt) => (doubt.look_at, doubt.has_answered) = (look_at, false),
            None if is_full => tracing::debug!(queue = %keys.queue, "what may have been leased by a lost call is left to expire"),
            None => self.0.push(Doubt { keys: Arc::clone(keys), nonce, look_at, has_answered: false }),
        }
    }

    /// Looks where it is time to.
    pub(super) async fn settle(&mut self, ctx: &Context) {
        let now = Instant::now();
        for at in (0..self.0.len()).rev() {
            let doubt = &mut self.0[at];
            if doubt.look_at > now {
                continue;
            }
            doubt.look_at = now + LOOK_EVERY;
            if let Err(error) = hand_back(ctx, &doubt.keys, doubt.nonce).await {
                return tracing::debug!(%error, "Redis is away still");
            }
            if std::mem::replace(&mut doubt.has_answered, true) {
                self.0.swap_remove(at);
            }
        }
    }
}

async fn hand_back(ctx: &Context, keys: &QueueKeys, nonce: Nonce) -> Result<()> {
    let mut connection = ctx.redis.connection();
    let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(&mut connection).await?;
    let leased_before = seconds * 1_000 + micros / 1_000 - ON_ITS_WAY_MS;
    let scene = survey(&mut connection, keys, nonce, &[]).await?;
    let lost = scene.leases.into_iter().filter(|left| !left.started && left.since.is_some_and(|since| unix_ms(since) < leased_before));
    let finishes: Vec<Finish> = lost
        .map(|left| {
            let standing = Standing { attempt: left.token.attempt - 1, ..left.standing };
            Finish { token: left.token, action: Action::Release, standing }
        })
        .collect();
    if finishes.is_empty() {
        return Ok(());
    }
    tracing::info!(queue = %keys.queue, n_jobs = finishes.len(), "leases are handed back: the answer that told of them got lost");
    apply(ctx, keys, finishes).await?;
    scripts::ring(&mut connection, keys).await
}
