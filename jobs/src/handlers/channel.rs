//! `channel.*`: kinds that speak to whoever is connected.

use crate::registry::JobContext;
use serde_json::value::to_raw_value;
use shared::{
    channels::publish_job::PublishLater,
    jobs::{JobError, engine::Outcome},
};

/// `channel.publish`: publishes on one channel or many, and nothing twice. Its result says on how many, and where it was refused; one
/// that is refused everywhere is dead.
pub async fn publish(context: JobContext, payload: PublishLater) -> Outcome {
    let job = &context.job;
    let Some(run) = context.until_stopped(payload.run(&context.ctx, job.id(), job.owner_id)).await else { return Outcome::Cancelled };
    match run {
        Err(error) => Outcome::retry(error.code.as_str(), error.detail),
        Ok(mut report) if report.published == 0 => {
            let refused = report.refused.swap_remove(0);
            Outcome::Discard(JobError { code: refused.code.to_owned(), message: format!("{}: {}", refused.channel, refused.detail) })
        }
        Ok(report) => match to_raw_value(&report) {
            Ok(result) => Outcome::Done(result),
            Err(error) => Outcome::retry("report", error.to_string()),
        },
    }
}
