//! Where a channel's history stands.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Offset of the last publication of a channel, and the epoch in which offsets count.
///
/// Offsets start at 1 and have no gaps within an epoch. Whenever Redis may have forgotten publications, the channel starts a
/// new epoch at offset 0, so that no offset ever means two publications. Example: a reader at `{offset: 7, epoch: "ab"}` that
/// finds the channel at `{offset: 7, epoch: "cd"}` has missed an unknown number of publications, and must be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub offset: u64,
    /// At most [`EPOCH_BYTES_MAX`] bytes. `""` from a client that has not heard of any yet: it matches every epoch.
    pub epoch: Arc<str>,
}

/// Longest epoch that a client may name; ours are 8 bytes long, those of other servers 4.
pub const EPOCH_BYTES_MAX: usize = 64;

impl Position {
    pub fn new(offset: u64, epoch: &str) -> Self {
        Self { offset, epoch: epoch.into() }
    }

    /// Whether this position of a client counts in `epoch`.
    pub fn counts_in(&self, epoch: &str) -> bool {
        self.epoch.is_empty() || &*self.epoch == epoch
    }
}
