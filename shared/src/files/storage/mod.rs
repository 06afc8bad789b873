//! The store of contents: objects by their key, in a folder or in an S3-compatible store. It knows nothing of rows.
//!
//! This file (what both can do), `folder` and `s3` (how), `http` (what `s3` speaks).

mod folder;
mod http;
mod s3;

use super::StoreId;
use crate::{
    Code, Error, Result,
    config::{Settings, StorageUrl},
    ids::FileId,
    telemetry::metrics::{FILES_STORE_ERRORS, FILES_WRITTEN_BYTES},
};
use bytes::Bytes;
use folder::{Folder, FolderUpload};
use futures_util::stream::BoxStream;
use object_store::path::Path;
use s3::{S3, S3Upload};
use std::{
    error::Error as _,
    io,
    ops::Range,
    sync::{Arc, OnceLock},
    time::Duration,
};
use time::OffsetDateTime;

/// Hexadecimal digits of an id that name its window: about four and a half hours of new files.
const WINDOW_DIGITS: usize = 6;
/// Objects of one window that are looked at together, at most.
const LISTED_MAX: usize = 500_000;

/// Access to the store; cheap to clone. It is opened on first use, and tried again while that fails.
#[derive(Debug, Clone)]
pub struct Storage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    place: Place,
    backend: OnceLock<Backend>,
}

/// What is needed to open it.
#[derive(Debug, Clone)]
enum Place {
    Folder(std::path::PathBuf),
    S3(s3::Bucket),
}

#[derive(Debug)]
enum Backend {
    Folder(Folder),
    S3(S3),
}

/// What an object is called: its database's part of the store, the time about which it was made, and its file's id. No caller's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ObjectKey {
    pub(super) store_id: StoreId,
    pub(super) file_id: FileId,
}

impl ObjectKey {
    fn path(self) -> Path {
        Path::from(format!("{}/{}/{}", self.store_id.0, window_of(self.file_id), self.file_id))
    }
}

/// The window that a file's object is listed in. Ids sort by time, and so do windows.
pub(super) fn window_of(id: FileId) -> String {
    let mut digits = id.to_string();
    digits.truncate(WINDOW_DIGITS);
    digits
}

/// An object that is open for reading.
pub(super) struct Object {
    /// Of all of it, whatever the range.
    pub(super) size_bytes: u64,
    pub(super) bytes: BoxStream<'static, Result<Bytes>>,
}

/// An object as a listing names it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed {
    pub(super) file_id: FileId,
    pub(super) modified_at: OffsetDateTime,
    /// A half-written one.
    pub(super) is_partial: bool,
}

/// The objects of a window.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) objects: Vec<Listed>,
    /// Whether there are more than were looked at.
    pub(super) is_cut: bool,
}

impl Storage {
    pub fn new(settings: &Settings) -> Self {
        let place = match &settings.storage_url {
            StorageUrl::Folder(folder) => Place::Folder(folder.clone()),
            StorageUrl::S3 { bucket, prefix } => Place::S3(s3::Bucket::new(settings, bucket, prefix)),
        };
        Self(Arc::new(Inner { place, backend: OnceLock::new() }))
    }

    /// The same with connections of its own, which belong to the runtime that uses it.
    #[must_use]
    pub fn for_runtime(&self) -> Self {
        Self(Arc::new(Inner { place: self.0.place.clone(), backend: OnceLock::new() }))
    }

    fn backend(&self) -> Result<&Backend> {
        if let Some(backend) = self.0.backend.get() {
            return Ok(backend);
        }
        let opened = match &self.0.place {
            Place::Folder(folder) => Folder::open(folder).map(Backend::Folder),
            Place::S3(bucket) => S3::open(bucket).map(Backend::S3),
        };
        let opened = opened.map_err(|error| failed("open", error))?;
        Ok(self.0.backend.get_or_init(|| opened))
    }

    /// Begins an object that nobody sees until it is complete.
    pub(super) async fn begin(&self, key: ObjectKey) -> Result<Upload> {
        let target = match self.backend()? {
            Backend::Folder(folder) => Target::Folder(folder.begin(&key.path()).await.map_err(|error| failed("begin", error))?),
            Backend::S3(s3) => Target::S3(s3.begin(key.path())),
        };
        Ok(Upload { target })
    }

    /// `None`: there is no such object. `range` is not empty, and within the object.
    pub(super) async fn read(&self, key: ObjectKey, range: Option<Range<u64>>) -> Result<Option<Object>> {
        let read = match self.backend()? {
            Backend::Folder(folder) => folder.read(&key.path(), range).await,
            Backend::S3(s3) => s3.read(&key.path(), range).await,
        };
        match read {
            Ok(object) => Ok(Some(object)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed("read", error)),
        }
    }

    /// Removes an object, and what was written of it; one that is not there is removed.
    pub(super) async fn remove(&self, key: ObjectKey, upload_id: Option<&str>) -> Result<()> {
        let removed = match self.backend()? {
            Backend::Folder(folder) => folder.remove(&key.path()).await,
            Backend::S3(s3) => s3.remove(&key.path(), upload_id).await,
        };
        match removed {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("remove", error)),
        }
    }

    /// The windows that have objects, or had some.
    pub(super) async fn windows(&self, store_id: StoreId) -> Result<Vec<String>> {
        let prefix = Path::from(store_id.0.to_string());
        let windows = match self.backend()? {
            Backend::Folder(folder) => folder.windows(&prefix).await,
            Backend::S3(s3) => s3.windows(&prefix).await,
        };
        let is_window = |name: &String| name.len() == WINDOW_DIGITS && name.bytes().all(|digit| digit.is_ascii_hexdigit());
        Ok(windows.map_err(|error| failed("list", error))?.into_iter().filter(is_window).collect())
    }

    /// What is in a window; what is not called as our objects are is not ours.
    pub(super) async fn list(&self, store_id: StoreId, window: &str) -> Result<Listing> {
        let prefix = Path::from(format!("{}/{window}", store_id.0));
        let listing = match self.backend()? {
            Backend::Folder(folder) => folder.list(&prefix).await,
            Backend::S3(s3) => s3.list(&prefix).await,
        };
        listing.map_err(|error| failed("list", error))
    }
}

/// An object being written, part by part.
#[derive(Debug)]
pub(super) struct Upload {
    target: Target,
}

#[derive(Debug)]
enum Target {
    Folder(FolderUpload),
    S3(S3Upload),
}

impl Upload {
    /// How large every part but the last must be.
    pub(super) fn part_bytes(&self) -> usize {
        match &self.target {
            Target::Folder(_) => folder::PART_BYTES,
            Target::S3(_) => s3::PART_BYTES,
        }
    }

    /// To be called before the first of several parts: what the store calls the upload, for those who would have to abort it.
    pub(super) async fn announce(&mut self) -> Result<Option<String>> {
        match &mut self.target {
            Target::Folder(_) => Ok(None),
            Target::S3(upload) => upload.announce().await.map(Some).map_err(|error| failed("write", error)),
        }
    }

    /// Returns when the store has it.
    pub(super) async fn write_part(&mut self, part: Bytes) -> Result<()> {
        let n_bytes = part.len() as u64;
        let written = match &mut self.target {
            Target::Folder(upload) => upload.write_part(part).await,
            Target::S3(upload) => upload.write_part(part).await,
        };
        written.map_err(|error| failed("write", error))?;
        metrics::counter!(FILES_WRITTEN_BYTES).increment(n_bytes);
        Ok(())
    }

    /// With the last part, which may be empty. The object is there and on the disk then.
    pub(super) async fn complete(&mut self, last: Bytes) -> Result<()> {
        let n_bytes = last.len() as u64;
        let completed = match &mut self.target {
            Target::Folder(upload) => upload.complete(last).await,
            Target::S3(upload) => upload.complete(last).await,
        };
        completed.map_err(|error| failed("complete", error))?;
        metrics::counter!(FILES_WRITTEN_BYTES).increment(n_bytes);
        Ok(())
    }
}

/// In words for callers: the store is away, or full.
pub(super) fn failed(operation: &'static str, error: object_store::Error) -> Error {
    metrics::counter!(FILES_STORE_ERRORS, "operation" => operation).increment(1);
    let refusal = if is_full(&error) {
        Error::new(Code::StorageFull, "There is no room left in the store of files.").retry_after(Duration::from_secs(60))
    } else {
        Error::new(Code::StorageUnavailable, "The store of files cannot be reached at the moment.").retry_after(Duration::from_secs(1))
    };
    refusal.caused_by(error)
}

fn is_full(error: &object_store::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge);
        }
        cause = error.source();
    }
    false
}

/// An error of our own beside the crate's.
pub(super) fn io_error(error: io::Error) -> object_store::Error {
    if error.kind() == io::ErrorKind::NotFound {
        return object_store::Error::NotFound { path: String::new(), source: error.into() };
    }
    object_store::Error::Generic { store: "folder", source: error.into() }
}

/// An object's name as the listing of its window has it.
fn parse_name(name: &str) -> Option<(FileId, bool)> {
    let (id, is_partial) = match name.split_once('#') {
        Some((id, _)) => (id, true),
        None => (name, false),
    };
    // Only as we write it: an id has other spellings.
    let file_id = id.parse::<FileId>().ok().filter(|parsed| parsed.to_string() == id)?;
    Some((file_id, is_partial))
}
