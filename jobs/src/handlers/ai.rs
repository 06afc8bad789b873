//! `ai.*`: kinds that ask the operator's language model.

use crate::registry::JobContext;
use shared::{
    ai::{Model, Prompt},
    jobs::engine::Outcome,
};

/// `ai.complete`: its result has the text. A run that is repeated asks again, and pays again.
pub async fn complete(model: Model, context: JobContext, prompt: Prompt) -> Outcome {
    context.until_stopped(model.complete(&context.ctx, &context.job, &prompt)).await.unwrap_or(Outcome::Cancelled)
}
