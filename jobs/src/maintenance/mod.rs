//! What one process does for all: sweeping, reconciling, rates, partitions ahead, pruning, watching, saving publications, firing schedules,
//! following up on what ended, ending waits for callbacks, sweeping the store of files, removing what deleted accounts had,
//! trimming dead letters of points.
//! One child is elected by an advisory lock; a second one at the same time would do no harm, since everything here is guarded, but only double
//! work.

mod accounts;
mod callbacks;
mod files;
mod following;
mod leader;
mod points;
mod publications;
mod reconciling;
mod rounds;
mod sampling;
mod scheduling;
mod sweeping;
mod upkeep;
mod watching;

use shared::{Context, vital::steadily};
use std::time::Duration;

/// Before trying again after the connection was lost.
const CAMPAIGN_EVERY: Duration = Duration::from_secs(1);

/// Runs for as long as it is polled: as the leader, or waiting to become it. What one of the tasks stumbles over keeps no other from its work.
pub async fn run(ctx: &Context) {
    loop {
        match leader::campaign(ctx).await {
            Ok(leadership) => {
                tracing::info!("this process maintains the queues");
                tokio::select! {
                    () = leadership.lost() => tracing::warn!("leadership of maintenance is lost"),
                    () = steadily("sweeping", || sweeping::run(ctx)) => {}
                    () = steadily("reconciling", || reconciling::run(ctx)) => {}
                    () = steadily("sampling", || sampling::run(ctx)) => {}
                    () = steadily("upkeep", || upkeep::run(ctx)) => {}
                    () = steadily("watching", || watching::run(ctx)) => {}
                    () = steadily("publications", || publications::run(ctx)) => {}
                    () = steadily("scheduling", || scheduling::run(ctx)) => {}
                    () = steadily("following", || following::run(ctx)) => {}
                    () = steadily("callbacks", || callbacks::run(ctx)) => {}
                    () = steadily("files", || files::run(ctx)) => {}
                    () = steadily("accounts", || accounts::run(ctx)) => {}
                    () = steadily("points", || points::run(ctx)) => {}
                }
            }
            Err(error) => tracing::debug!(%error, "no election while PostgreSQL is away"),
        }
        tokio::time::sleep(CAMPAIGN_EVERY).await;
    }
}
