//! `http.request`: a job that is delivered to a receiver, which answers for what becomes of it.

use crate::registry::JobContext;
use serde_json::value::RawValue;
use shared::{endpoints::deliver, jobs::engine::Outcome};

/// `http.request`: its payload is the body. A delivery that is cut short may have arrived: receivers know a repeated one by its id.
pub async fn request(context: JobContext, _: Box<RawValue>) -> Outcome {
    context.until_stopped(deliver::deliver(&context.ctx, &context.job)).await.unwrap_or(Outcome::Cancelled)
}
