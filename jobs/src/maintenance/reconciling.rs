//! The leader's slow loop: pauses and recent rows every few seconds, a rolling scan of all rows and all copies beside them.

use super::rounds::Rounds;
use shared::{
    Context, Result,
    jobs::{
        QueueName,
        engine::{QueueRow, reconcile, upkeep},
    },
};
use std::{collections::HashMap, time::Duration};
use time::OffsetDateTime;
use uuid::Uuid;

/// Ids are made when a request begins, rows are seen when it commits: recent reaches back this far behind the last pass.
const OVERLAP: Duration = Duration::from_secs(15);
/// The newest rows are on their way into Redis by themselves.
const SETTLING_IN: Duration = Duration::from_millis(500);
/// Pages (of 1,000 rows) of recent rows in one pass; what is beyond comes with the next.
const RECENT_PAGES: usize = 50;
/// Pages of the rolling scans in one pass.
const ROLLING_PAGES: usize = 10;

/// Where the scans stand.
struct Scans {
    /// Everything up to here was looked at by a pass that succeeded.
    recent_from: Uuid,
    rolling_after: Uuid,
    copies: HashMap<QueueName, u64>,
}

/// Reconciles for as long as it is polled. A pass that failed is made up for by the next one, which covers the same.
pub(super) async fn run(ctx: &Context) {
    let every = Duration::from_millis(ctx.settings().worker_reconcile_ms);
    // A new leader knows nothing of what was looked at before: its first passes cover everything.
    let mut scans = Scans { recent_from: Uuid::nil(), rolling_after: Uuid::nil(), copies: HashMap::new() };
    let mut rounds = Rounds::every("reconciling", every);
    loop {
        rounds.begin().await;
        rounds.end(pass(ctx, &mut scans).await);
    }
}

async fn pass(ctx: &Context, scans: &mut Scans) -> Result<()> {
    let queues = upkeep::queues(ctx).await?;
    reconcile::repair_pauses(ctx, &queues).await?;
    recent(ctx, scans).await?;
    rolling(ctx, scans).await?;
    copies(ctx, scans, queues).await
}

async fn recent(ctx: &Context, scans: &mut Scans) -> Result<()> {
    let now = ctx.clock.now();
    let until = reconcile::id_floor(now - SETTLING_IN);
    let mut after = scans.recent_from;
    for _ in 0..RECENT_PAGES {
        match reconcile::repair_rows(ctx, after, until).await? {
            Some(next) => after = next,
            None => {
                after = floor(now - OVERLAP);
                break;
            }
        }
    }
    scans.recent_from = after;
    Ok(())
}

fn floor(at: OffsetDateTime) -> Uuid {
    reconcile::id_floor(at)
}

async fn rolling(ctx: &Context, scans: &mut Scans) -> Result<()> {
    for _ in 0..ROLLING_PAGES {
        match reconcile::repair_rows(ctx, scans.rolling_after, Uuid::max()).await? {
            Some(next) => scans.rolling_after = next,
            None => {
                scans.rolling_after = Uuid::nil();
                break;
            }
        }
    }
    Ok(())
}

async fn copies(ctx: &Context, scans: &mut Scans, queues: Vec<QueueRow>) -> Result<()> {
    for row in queues {
        let cursor = scans.copies.entry(row.name.clone()).or_insert(0);
        for _ in 0..ROLLING_PAGES {
            *cursor = reconcile::repair_copies(ctx, &row.name, *cursor).await?;
            if *cursor == 0 {
                break;
            }
        }
    }
    Ok(())
}
