//! `system.*`: kinds that keep the platform itself in view.

use crate::registry::JobContext;
use serde_json::value::{RawValue, to_raw_value};
use shared::jobs::engine::Outcome;
use time::format_description::well_known::Rfc3339;

/// `system.heartbeat`: shows that jobs are run at all. Its end feeds the metric of when a job was last processed.
pub async fn heartbeat(context: JobContext, _: Box<RawValue>) -> Outcome {
    let now = context.ctx.clock.now().format(&Rfc3339).unwrap_or_default();
    match to_raw_value(&serde_json::json!({"processed_at": now})) {
        Ok(result) => Outcome::Done(result),
        Err(error) => Outcome::retry("heartbeat", error.to_string()),
    }
}
