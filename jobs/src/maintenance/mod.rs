//! What one process does for all: sweeping, reconciling, rates, partitions ahead, pruning, watching, saving publications, firing schedules,
//! following up on what ended, ending waits for callbacks, sweeping the store of files.
//! One child is elected by an advisory lock; a second one at the same time would do no harm, since everything here is guarded, but only double
//! work.

mod callbacks;
mod files;
mod following;
mod leader;
mod publications;
mod reconciling;
mod sampling;
mod scheduling;
mod sweeping;
mod upkeep;
mod watching;

use futures_util::FutureExt;
use shared::Context;
use std::{panic::AssertUnwindSafe, time::Duration};

/// Before trying again after the connection was lost.
const CAMPAIGN_EVERY: Duration = Duration::from_secs(1);

/// Runs for as long as it is polled: as the leader, or waiting to become it.
pub async fn run(ctx: Context) {
    loop {
        match leader::campaign(&ctx).await {
            Ok(leadership) => {
                tracing::info!("this process maintains the queues");
                tokio::select! {
                    () = leadership.lost() => tracing::warn!("leadership of maintenance is lost"),
                    () = steadily("sweeping", || sweeping::run(&ctx)) => {}
                    () = steadily("reconciling", || reconciling::run(&ctx)) => {}
                    () = steadily("sampling", || sampling::run(&ctx)) => {}
                    () = steadily("upkeep", || upkeep::run(&ctx)) => {}
                    () = steadily("watching", || watching::run(&ctx)) => {}
                    () = steadily("publications", || publications::run(&ctx)) => {}
                    () = steadily("scheduling", || scheduling::run(&ctx)) => {}
                    () = steadily("following", || following::run(&ctx)) => {}
                    () = steadily("callbacks", || callbacks::run(&ctx)) => {}
                    () = steadily("files", || files::run(&ctx)) => {}
                }
            }
            Err(error) => tracing::debug!(%error, "no election while PostgreSQL is away"),
        }
        tokio::time::sleep(CAMPAIGN_EVERY).await;
    }
}

/// Begins anew after a panic: what one of them stumbles over keeps no other from its work.
async fn steadily<F: Future<Output = ()>>(name: &'static str, run: impl Fn() -> F) {
    beginning_anew(name, CAMPAIGN_EVERY, run).await;
}

async fn beginning_anew<F: Future<Output = ()>>(name: &'static str, pause: Duration, run: impl Fn() -> F) {
    while AssertUnwindSafe(run()).catch_unwind().await.is_err() {
        tracing::error!(task = name, "maintenance has panicked, and begins anew");
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test]
    async fn what_panics_begins_anew() {
        let n_runs = Cell::new(0);
        let run = || async {
            n_runs.set(n_runs.get() + 1);
            assert!(n_runs.get() > 2, "one that it stumbles over");
        };
        beginning_anew("test", Duration::ZERO, run).await;
        assert_eq!(n_runs.get(), 3);
    }
}
