//! The leader's look at how fast each queue goes, once a second.

use super::rounds::Rounds;
use shared::{
    Context, Result,
    jobs::engine::{rates::Sampler, upkeep},
};
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(1);

/// Samples for as long as it is polled.
pub(super) async fn run(ctx: &Context) {
    let mut sampler = Sampler::default();
    let mut rounds = Rounds::every("sampling", EVERY);
    loop {
        rounds.begin().await;
        rounds.end(sample(ctx, &mut sampler).await);
    }
}

async fn sample(ctx: &Context, sampler: &mut Sampler) -> Result<()> {
    let queues = upkeep::queues(ctx).await?.into_iter().map(|row| row.name).collect::<Vec<_>>();
    sampler.sample(ctx, &queues).await
}
