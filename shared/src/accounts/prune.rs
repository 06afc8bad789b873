//! Removing what nothing asks for any more; maintenance calls it now and then.

use super::store;
use crate::{Context, Result};
use time::Duration;

/// Ended sessions and revoked keys are kept so long, for questions.
const KEPT_AFTER_END: Duration = Duration::days(7);

/// Removes at most `limit` rows of each table; returns how many it removed. Call again while it removes `limit` or more.
pub async fn prune(ctx: &Context, limit: i64) -> Result<u64> {
    let (pg, now) = (&ctx.pg, ctx.clock.now());
    Ok(store::prune::sessions(pg, now - KEPT_AFTER_END, limit).await?
        + store::prune::api_keys(pg, now - KEPT_AFTER_END, limit).await?
        + store::prune::revocations(pg, now, limit).await?
        + store::prune::password_resets(pg, now, limit).await?)
}
