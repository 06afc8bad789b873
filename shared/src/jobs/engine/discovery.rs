//! Which queues there are: the rows of `queues`, read every few seconds, and at once when an unknown one rings.

use super::store::{self, QueueRow};
use crate::Context;
use std::time::Duration;
use tokio::sync::{Notify, watch};

const REFRESH: Duration = Duration::from_secs(3);

/// Publishes the list whenever it changes, for as long as it is polled.
pub async fn discover(ctx: &Context, queues: &watch::Sender<Vec<QueueRow>>, refresh: &Notify) {
    loop {
        match store::queues(&ctx.pg).await {
            Ok(fresh) => {
                queues.send_if_modified(|known| {
                    let has_changed = *known != fresh;
                    *known = fresh;
                    has_changed
                });
            }
            Err(error) => tracing::warn!(%error, "the list of queues could not be read; the last one stays"),
        }
        // A name that rings and has no row would otherwise ask again and again.
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(tokio::time::timeout(REFRESH, refresh.notified()).await);
    }
}
