//! How many files one process reads and writes at once for callers, and what it knows of the store without asking.

use super::{StoreId, store};
use crate::{
    Code, Context, Error, Result,
    config::Settings,
    ids::UserId,
    turns::{Turn, Turns},
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
        Self { uploads: Turns::new(settings.uploads_max), downloads: Turns::new(settings.downloads_max), store_id: OnceCell::new() }
    }

    /// Whoever comes first goes first; whose turn does not come in time may ask again. Held for as long as the upload lasts.
    pub async fn upload_turn(&self, user_id: UserId) -> Result<Turn> {
        self.uploads.within(user_id, TURN_WITHIN).await.ok_or_else(|| busy("uploaded"))
    }

    /// Held for as long as the download lasts, and that may be long: nobody waits for it.
    pub fn download_turn(&self, user_id: UserId) -> Result<Turn> {
        self.downloads.at_once(user_id).ok_or_else(|| busy("downloaded"))
    }

    pub(super) async fn store_id(&self, ctx: &Context) -> Result<StoreId> {
        self.store_id.get_or_try_init(|| store::store_id(&ctx.pg)).await.copied()
    }
}

fn busy(done: &str) -> Error {
    Error::new(Code::Overloaded, format!("Too many files are being {done}.")).retry_after(Duration::from_secs(rand::random_range(1..=3)))
}
