//! What this process knows of the servers it needs, for probes and for the requests that need them. Found out beside the requests, all the
//! time: probes are answered from memory, however busy pools and threads are.

use shared::{
    Context, Result,
    breaker::{Breaker, Miss},
    pg,
    vital::vital,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// Between looks at the migrations: until they are complete, and then.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_AGAIN_EVERY: Duration = Duration::from_secs(10);

/// Clones share what is known.
#[derive(Debug, Clone)]
pub struct Health {
    pub postgres: Breaker,
    pub redis: Breaker,
    /// What is wrong with the migrations, once they were looked at; an empty text if nothing is.
    migrations: Arc<watch::Sender<Option<String>>>,
}

impl Health {
    /// Begins to find out, on the runtime that this is called on.
    pub fn start(ctx: &Context) -> Result<Self> {
        let patience = Duration::from_millis(ctx.settings().health_probe_timeout_ms);
        let health = Self { postgres: ctx.pg_breaker.clone(), redis: ctx.redis.breaker().clone(), migrations: Arc::default() };
        let (probe, redis) = (Arc::new(pg::Probe::new(&ctx.settings())?), ctx.redis.clone());
        let asked = Arc::clone(&probe);
        let postgres = health.postgres.clone().watch(patience, move || ask(Arc::clone(&asked)));
        let redis = health.redis.clone().watch(patience, move || {
            let redis = redis.clone();
            async move { redis.probe().await }
        });
        tokio::spawn(vital("probe of PostgreSQL", postgres));
        tokio::spawn(vital("probe of Redis", redis));
        if let Some(replica) = ctx.replica.clone() {
            let settings = ctx.settings().clone();
            tokio::spawn(vital("probe of the replica", async move {
                if let Err(error) = replica.watch(settings).await {
                    tracing::error!(%error, "the replica is not watched");
                }
            }));
        }
        tokio::spawn(vital("look at migrations", look_at_migrations(probe, Arc::clone(&health.migrations), patience)));
        Ok(health)
    }

    /// What is wrong with the migrations, once they were looked at: waits for that, up to `patience`.
    pub async fn wrong_migrations(&self, patience: Duration) -> Option<String> {
        let mut wrong = self.migrations.subscribe();
        match timeout(patience, wrong.wait_for(Option::is_some)).await {
            Ok(Ok(wrong)) => wrong.clone().filter(|wrong| !wrong.is_empty()),
            Ok(Err(_)) | Err(_) => Some("not looked at yet".to_owned()),
        }
    }
}

async fn ask(probe: Arc<pg::Probe>) -> Result<(), Miss> {
    probe.ask().await
}

async fn look_at_migrations(probe: Arc<pg::Probe>, wrong: Arc<watch::Sender<Option<String>>>, patience: Duration) {
    loop {
        let found = match timeout(patience, probe.pending_migrations()).await {
            Ok(Ok(0)) => String::new(),
            Ok(Ok(n_pending)) => format!("{n_pending} migrations are pending"),
            Ok(Err(error)) => error.detail.into_owned(),
            Err(_) => format!("no answer within {} ms", patience.as_millis()),
        };
        let is_complete = found.is_empty();
        wrong.send_replace(Some(found));
        sleep(if is_complete { LOOK_AGAIN_EVERY } else { LOOK_EVERY }).await;
    }
}
