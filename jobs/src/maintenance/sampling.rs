//! The leader's look at how fast each queue goes, once a second.

use shared::{
    Context, Result,
    jobs::engine::{rates::Sampler, upkeep},
};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

const EVERY: Duration = Duration::from_secs(1);

/// Samples for as long as it is polled.
pub(super) async fn run(ctx: &Context) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sampler = Sampler::default();
    loop {
        ticks.tick().await;
        if let Err(error) = sample(ctx, &mut sampler).await {
            tracing::debug!(%error, "the queues' rates are not known at the moment");
        }
    }
}

async fn sample(ctx: &Context, sampler: &mut Sampler) -> Result<()> {
    let queues = upkeep::queues(ctx).await?.into_iter().map(|row| row.name).collect::<Vec<_>>();
    sampler.sample(ctx, &queues).await
}
