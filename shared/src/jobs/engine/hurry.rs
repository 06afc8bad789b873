//! Jobs that wait to be tried again are brought forward, when what they waited for is well before they look again.

use super::{
    QueueKeys,
    reconcile::copy,
    scripts::Places,
    store::hurry::{ToEndpoint, bring_forward},
};
use crate::{
    Context, Result,
    ids::{EndpointId, JobId},
    jobs::QueueName,
};
use std::{collections::HashMap, time::Duration};

/// Longest that a job waits for an endpoint, which is longer than its breaker is ever open: what is due later waits for something else too.
const WAIT_MAX: Duration = Duration::from_mins(13);
/// Jobs that are brought forward at once; the others wait their time.
const JOBS_MAX: i64 = 10_000;

/// Jobs of an endpoint that were delivered or put off before are due now; returns how many. Those that were never looked at keep to what their
/// submit says; those that an operator sent there wait their time. Queues without rows have no jobs for endpoints.
pub async fn hurry_endpoint(ctx: &Context, endpoint_id: EndpointId) -> Result<u64> {
    let now = ctx.clock.now();
    let waiting = ToEndpoint { kind: crate::endpoints::KIND, endpoint_id, due_until: now + WAIT_MAX, limit: JOBS_MAX };
    let mut by_queue: HashMap<String, Vec<JobId>> = HashMap::new();
    for (queue, id) in bring_forward(&ctx.pg, waiting, now).await? {
        by_queue.entry(queue).or_default().push(id);
    }
    let mut n_jobs = 0;
    for (queue, ids) in by_queue {
        n_jobs += copy(ctx, &QueueKeys::new(&ctx.keys, &QueueName::new(&queue)?), &ids, Places::Kept).await?;
    }
    Ok(n_jobs)
}
