//! Files: what callers uploaded and what jobs made. Their rows are in PostgreSQL, their contents are objects of a store.
//!
//! A row is there before its object, and counts against its owner's quota from then on; nobody sees it until its object is complete. A row
//! that goes leaves a note of its object, which goes after it. In reading order:
//!
//! - this file (types); [`storage`]: the store, a folder or S3; `name`, [`sniff`]: what a file is called, and what it is.
//! - [`writing`]: a file on its way in, from a caller or a job. [`content`]: one on its way out.
//! - [`manage`]: what callers do with files; `local`: how many at once. [`sweep`]: what was left behind.
//! - [`inspect`]: the job kind `files.inspect`. `store`: the SQL.

pub mod content;
pub mod inspect;
mod local;
pub mod manage;
mod name;
pub mod sniff;
pub mod storage;
mod store;
pub mod sweep;
#[cfg(test)]
mod tests;
pub mod writing;

pub use local::LocalFiles;
pub use storage::Storage;

use crate::{
    Code, Error,
    ids::{FileId, UserId},
};
use serde::Serialize;
use storage::ObjectKey;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

/// A file as callers see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "id": "01a1fb40-f998-71ea-83d1-3bd51ccbb3da", "name": "bus-7.gpx", "size_bytes": 48_213,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "content_type": "application/gpx+xml",
    "owner_id": "01a1fb40-0000-7000-8000-000000000001", "created_at": "2026-11-21T10:19:58.104Z"
}))]
pub struct File {
    pub id: FileId,
    /// As it was sent, without folders and without characters that would mislead.
    #[schema(min_length = 1, max_length = 255)]
    pub name: String,
    #[schema(minimum = 0)]
    pub size_bytes: u64,
    /// Of the content, in hexadecimal digits.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub sha256: String,
    /// What the content looks like, which need not be what was said of it.
    pub content_type: String,
    pub owner_id: UserId,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// What a database's objects begin with in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoreId(pub(crate) Uuid);

impl StoreId {
    fn key(self, file_id: FileId) -> ObjectKey {
        ObjectKey { store_id: self, file_id }
    }
}

fn not_found() -> Error {
    Error::not_found("file")
}

/// The row is there, and its object is not, or is another one.
fn lost() -> Error {
    Error::new(Code::FileLost, "The content of this file is no longer there.")
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
    }
    text
}
