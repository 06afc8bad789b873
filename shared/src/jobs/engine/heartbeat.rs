//! Keeps the leases of this process alive, on a connection of its own, from the first lease until the last is settled:
//! through drain, and while PostgreSQL is away.

use super::{
    IDS_MAX,
    held::Held,
    scripts::{self, QueueKeys},
    token::Token,
};
use crate::redis::Connection;
use crate::{Context, Result, telemetry::metrics};
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;

/// Until Redis answers again: the leases run out meanwhile.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// Beats for as long as it is polled, over a `connection` of its own.
pub async fn beat(ctx: &Context, mut connection: Connection, held: &Held) {
    let (lease, every) = {
        let settings = ctx.settings();
        (Duration::from_millis(settings.worker_lease_ms), Duration::from_millis(settings.worker_heartbeat_ms))
    };
    let mut pause = every;
    loop {
        tokio::select! {
            () = sleep(pause) => {}
            () = held.look.notified() => {}
        }
        pause = every;
        for (keys, tokens) in held.tokens_by_queue() {
            for tokens in tokens.chunks(IDS_MAX) {
                if let Err(error) = extend(&mut connection, &keys, lease, tokens, held).await {
                    tracing::warn!(%error, queue = %keys.queue, n_leases = tokens.len(), "leases could not be extended");
                    pause = every.min(RETRY_EVERY);
                }
            }
        }
    }
}

async fn extend(connection: &mut Connection, keys: &Arc<QueueKeys>, lease: Duration, tokens: &[Token], held: &Held) -> Result<()> {
    let (lost, cancels) = scripts::heartbeat(connection, keys, lease, tokens).await?;
    if !lost.is_empty() {
        // A delivery that was finished between the snapshot and the script is no longer held, and so not counted.
        let n_lost = held.lose(tokens.iter().copied().filter(|token| lost.contains(&token.job_id)));
        if n_lost > 0 {
            ::metrics::counter!(metrics::JOB_LEASES_LOST, "at" => "heartbeat").increment(n_lost as u64);
            tracing::warn!(queue = %keys.queue, n_lost, "leases were lost; their attempts are stopped");
        }
    }
    for job_id in cancels {
        held.cancel(job_id);
    }
    Ok(())
}
