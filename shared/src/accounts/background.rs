//! What runs beside the requests for accounts, until told to stop: hearing and polling revocations, noting the use of keys.

use super::{Accounts, store};
use crate::ids::ApiKeyId;
use std::{collections::HashSet, sync::PoisonError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Uses noted in one statement.
const NOTED_AT_ONCE: usize = 256;

impl Accounts {
    /// Runs until `stop`; spawn it once per process.
    pub async fn run_background(self, stop: CancellationToken) {
        let key_uses = self.key_uses_end.lock().unwrap_or_else(PoisonError::into_inner).take();
        tokio::join!(self.poll_until(&stop), self.listen_until(&stop), async {
            if let Some(key_uses) = key_uses {
                self.note_key_uses(key_uses, &stop).await;
            }
        });
    }

    async fn note_key_uses(&self, mut key_uses: mpsc::Receiver<ApiKeyId>, stop: &CancellationToken) {
        let mut batch = Vec::with_capacity(NOTED_AT_ONCE);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = key_uses.recv_many(&mut batch, NOTED_AT_ONCE) => {}
            }
            let ids: HashSet<ApiKeyId> = batch.drain(..).collect();
            let ids: Vec<_> = ids.into_iter().map(|id| id.0).collect();
            if let Err(error) = store::api_keys::touch(&self.ctx.pg, &ids, self.ctx.clock.now()).await {
                tracing::warn!(%error, "the last use of API keys is not noted");
            }
        }
    }
}
