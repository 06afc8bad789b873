//! `files.*`: kinds that read and make files.

use crate::registry::JobContext;
use serde_json::value::to_raw_value;
use shared::{
    files::inspect::{ImageTurns, Inspect},
    jobs::{JobError, engine::Outcome},
};

/// `files.inspect`: its result says what the file is, and names the thumbnail. A file that is gone, or no longer the owner's to read, is
/// no use trying again.
pub async fn inspect(turns: ImageTurns, context: JobContext, inspect: Inspect) -> Outcome {
    let job = &context.job;
    match context.until_stopped(Box::pin(inspect.run(&context.ctx, &turns, job.id(), job.owner_id))).await {
        None => Outcome::Cancelled,
        Some(Ok(report)) => match to_raw_value(&report) {
            Ok(result) => Outcome::Done(result),
            Err(error) => Outcome::retry("report", error.to_string()),
        },
        Some(Err(error)) if error.is_refusal() => {
            Outcome::Discard(JobError { code: error.code.as_str().to_owned(), message: error.detail.into_owned() })
        }
        Some(Err(error)) => Outcome::retry(error.code.as_str(), error.to_string()),
    }
}
