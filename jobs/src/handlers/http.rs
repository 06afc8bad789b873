//! `http.request`: a job that is delivered to a receiver, which answers for what becomes of it.

use crate::registry::JobContext;
use serde_json::value::RawValue;
use shared::{
    endpoints::deliver::{Delivered, deliver},
    jobs::engine::Outcome,
};

/// `http.request`: its payload is the body. A delivery that is cut short may have arrived: receivers know a repeated one by its id.
pub async fn request(context: JobContext, _: Box<RawValue>) -> Outcome {
    match context.until_stopped(deliver(&context.ctx, &context.job)).await {
        Some(Delivered::Over(outcome)) => outcome,
        Some(Delivered::Parking(parking)) => parking.finish(&context.ctx, &context.job).await,
        None => Outcome::Cancelled,
    }
}
