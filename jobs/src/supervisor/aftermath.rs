//! After a child has ended: what ran in it is concluded by how it ended, and everything else that it held is handed back, so
//! that both run again at once. If this process dies as well, the leases expire and started attempts count as lost.

use super::{Crew, Order, Plan, child_process::Ended};
use crate::child::Duty;
use shared::jobs::{
    engine::{
        Nonce,
        outcome::Company,
        salvage::{self, Fate, Running, Wreck},
        timekeeping,
    },
    workers,
};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout};

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(1);
/// How long a worker that stops goes on trying.
const LAST_TRIES: Duration = Duration::from_secs(2);

/// Sees to it in the background; the worker waits for it before it ends.
pub(super) fn begin(crew: &Arc<Crew>, plan: &Plan, ended: Ended) {
    let Some(wreck) = wreck(plan, &ended, *crew.order.borrow()) else { return };
    let (crew, worker_id, pid) = (Arc::clone(crew), plan.worker_id, ended.pid);
    crew.aftermaths.clone().spawn(async move {
        let has_suspects = wreck.running.iter().any(|(_, fate)| matches!(fate, Fate::Crashed { .. }));
        clean_up(&crew, &wreck, pid).await;
        if has_suspects {
            crew.suspects.notify_one();
        }
        if let Ok(Err(error)) = timeout(RETRY_LAST, workers::forget_child(&crew.ctx, worker_id, pid)).await {
            tracing::debug!(%error, "the child's report stays until it expires");
        }
    });
}

/// What the end of its child means for each attempt that ran there; `None` when the child left nothing behind.
fn wreck(plan: &Plan, ended: &Ended, order: Order) -> Option<Wreck> {
    if ended.is_in_order() || plan.duty == Duty::Maintenance {
        return None;
    }
    let company = match plan.duty {
        Duty::Ordinary | Duty::Maintenance => Company::Shared,
        Duty::Quarantine => Company::Alone,
    };
    let fate = |running: &Running| match running.limit {
        Some(limit) if ended.overdue.contains(&running.job_id) => Fate::TimedOut { limit },
        // It was us who ended it, for another's sake or because the worker stops.
        _ if !ended.overdue.is_empty() || order >= Order::Warm => Fate::Interrupted,
        _ => Fate::Crashed { how: ended.how(), company },
    };
    let running = ended.running.iter().map(|running| (running.clone(), fate(running))).collect();
    Some(Wreck { nonce: ended.nonce, salvor: Nonce::new(), worker_id: plan.worker_id.to_string(), running })
}

/// Tries until nothing is left, or until the child's leases have expired and are everybody's.
async fn clean_up(crew: &Crew, wreck: &Wreck, pid: u32) {
    let started = Instant::now();
    let lease = Duration::from_millis(crew.ctx.settings().worker_lease_ms);
    let (mut n_ended, mut pause) = (0, RETRY_FIRST);
    loop {
        timekeeping::look(&crew.ctx).await;
        match salvage::salvage(&crew.ctx, wreck, &crew.queues()).await {
            Ok(0) => break,
            // Once more: the child's last words may have reached Redis meanwhile.
            Ok(n) => n_ended += n,
            Err(error) => {
                tracing::warn!(pid, %error, "what a child left cannot be dealt with yet");
                pause = (pause * 2).min(RETRY_LAST);
            }
        }
        let patience = if *crew.order.borrow() >= Order::Warm { LAST_TRIES } else { lease };
        if started.elapsed() >= patience {
            tracing::warn!(pid, "what a child left is given up; its leases expire by themselves");
            return;
        }
        sleep(pause).await;
    }
    let job_ids: Vec<String> = wreck.running.iter().map(|(running, _)| running.job_id.to_string()).collect();
    tracing::warn!(pid, n_ended, ?job_ids, "what a child left is dealt with");
}
