//! The read replica (`DATABASE_READ_URL`): what lists and stats ask instead of the primary, while it answers. It is a moment behind, so nothing
//! is decided by it; and nothing is lost without it: whatever it does not answer the primary does.

use super::{Probe, open_at};
use crate::{Code, Result, breaker::Breaker, config::Settings, telemetry::metrics::DB_REPLICA_FALLBACKS};
use secrecy::ExposeSecret;
use sqlx::PgPool;
use std::{sync::Arc, time::Duration};

/// Clones share their pool.
#[derive(Debug, Clone)]
pub struct Replica {
    pub(crate) pg: PgPool,
    /// Open while the replica is away, in processes that watch it.
    pub breaker: Breaker,
}

impl Replica {
    /// `None` where there is none. Connects when it must, and to no more than `max` connections.
    pub fn open(settings: &Settings, max: u32) -> Result<Option<Self>> {
        let open = |url: &str| Ok(Self { pg: open_at(settings, url, 0, max)?, breaker: Breaker::new("replica") });
        settings.database_read_url.as_ref().map(|url| open(url.expose_secret())).transpose()
    }

    /// The same with connections of its own, as many as `pg` has.
    pub(crate) fn beside(&self, settings: &Settings, pg: &PgPool) -> Result<Self> {
        let Some(url) = &settings.database_read_url else { return Ok(self.clone()) };
        let (min, max) = (pg.options().get_min_connections(), pg.options().get_max_connections());
        Ok(Self { pg: open_at(settings, url.expose_secret(), min, max)?, breaker: self.breaker.clone() })
    }

    /// Finds out, for as long as the process lives, whether the replica answers.
    pub async fn watch(self, settings: Arc<Settings>) -> Result<()> {
        let Some(url) = &settings.database_read_url else { return Ok(()) };
        let probe = Arc::new(Probe::at(&settings, url.expose_secret())?);
        let patience = Duration::from_millis(settings.health_probe_timeout_ms);
        self.breaker
            .watch(patience, move || {
                let probe = Arc::clone(&probe);
                async move { probe.ask().await }
            })
            .await;
        Ok(())
    }

    /// How many migrations this binary knows and the replica has not seen.
    pub async fn pending_migrations(&self) -> Result<usize> {
        super::pending_migrations(&self.pg).await
    }

    /// What `read` comes to, which asks the replica; `None` where the primary has to be asked.
    pub(crate) async fn unless_away<T>(&self, read: impl Future<Output = Result<T>>) -> Option<Result<T>> {
        let reason = match self.breaker.unless_open(read).await {
            None => "away",
            Some(Err(error)) if error.code == Code::DatabaseUnavailable => {
                self.breaker.doubt();
                "away"
            }
            // What was made a moment ago may not have come there yet.
            Some(Err(error)) if error.code == Code::NotFound => "not_found",
            // It has not seen the newest migration yet, or ended the statement because what it read was to be replaced.
            Some(Err(error)) if error.code == Code::Internal => {
                tracing::warn!(%error, "the replica cannot answer what the primary is asked now");
                "failed"
            }
            Some(answer) => {
                self.breaker.answered();
                return Some(answer);
            }
        };
        metrics::counter!(DB_REPLICA_FALLBACKS, "reason" => reason).increment(1);
        None
    }
}
