//! Election by a session's advisory lock, on a connection past any pooler: who has the connection has the lock.

use shared::{Context, Result, jobs::engine::upkeep};
use sqlx::{Connection, PgConnection};
use std::time::Duration;

/// How often a candidate tries, and the leader looks whether its connection, and so its lock, is still there.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The lock is held until this is dropped or its connection ends.
#[derive(Debug)]
pub(super) struct Leadership {
    connection: PgConnection,
}

/// Waits to be elected; an error means that the connection to wait on is gone.
pub(super) async fn campaign(ctx: &Context) -> Result<Leadership> {
    let mut connection = upkeep::candidate(ctx).await?;
    while !upkeep::try_lead(&mut connection).await? {
        tokio::time::sleep(CHECK_EVERY).await;
    }
    Ok(Leadership { connection })
}

impl Leadership {
    /// Returns when the lock is gone.
    pub(super) async fn lost(mut self) {
        loop {
            tokio::time::sleep(CHECK_EVERY).await;
            if let Err(error) = self.connection.ping().await {
                tracing::warn!(%error, "the leader's connection is gone");
                return;
            }
        }
    }
}
