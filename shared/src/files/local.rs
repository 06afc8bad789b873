//! How many files one process reads and writes at once for callers, and what it knows of the store without asking.

use super::{StoreId, store};
use crate::{
    Context, Result,
    config::Settings,
    ids::UserId,
    turns::{Turn, Turns, Waiter},
};
use std::time::Duration;
use tokio::sync::OnceCell;

/// How long an upload waits for its turn: shorter than clients wait for an answer.
const TURN_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct LocalFiles {
    uploads: Turns,
    downloads: Turns,
    store_id: OnceCell<StoreId>,
}

impl LocalFiles {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            uploads: Turns::new(settings.uploads_max, "Too many files are being uploaded."),
            downloads: Turns::new(settings.downloads_max, "Too many files are being downloaded."),
            store_id: OnceCell::new(),
        }
    }

    /// Whoever comes first goes first; whose turn does not come in time may ask again. Held for as long as the upload lasts.
    pub async fn upload_turn(&self, user_id: UserId, waiter: &impl Waiter) -> Result<Turn> {
        self.uploads.within(user_id, TURN_WITHIN, waiter).await
    }

    /// Held for as long as the download lasts, and that may be long: nobody waits for it.
    pub fn download_turn(&self, user_id: UserId) -> Result<Turn> {
        self.downloads.at_once(user_id)
    }

    pub(super) async fn store_id(&self, ctx: &Context) -> Result<StoreId> {
        self.store_id.get_or_try_init(|| store::store_id(&ctx.pg)).await.copied()
    }
}
