//! A folder as the store. What is written has a name of its own until it is complete, is on the disk then, and gets its name at once.

use super::{LISTED_MAX, Listed, Listing, Object, io_error, parse_name};
use crate::{Error, Result};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use object_store::{
    Error as StoreError, GetOptions, GetResultPayload, MultipartUpload, ObjectStore, ObjectStoreExt, PutMultipartOptions,
    local::LocalFileSystem, path::Path,
};
use std::{
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::FileExt,
    path::PathBuf,
};
use time::OffsetDateTime;
use tokio::task::spawn_blocking;

/// What an upload holds, and a write costs a visit to the blocking pool: small enough for a hundred at once, large enough to be quick.
pub(super) const PART_BYTES: usize = 64 << 10;
/// The same for downloads.
const CHUNK_BYTES: u64 = 64 << 10;

#[derive(Debug)]
pub(super) struct Folder {
    store: LocalFileSystem,
    root: PathBuf,
}

impl Folder {
    /// Makes the folder unless it is there.
    pub(super) fn open(folder: &std::path::Path) -> Result<Self, StoreError> {
        fs::create_dir_all(folder).map_err(io_error)?;
        let root = fs::canonicalize(folder).map_err(io_error)?;
        let store = LocalFileSystem::new_with_prefix(&root)?.with_fsync(true).with_automatic_cleanup(true);
        Ok(Self { store, root })
    }

    pub(super) async fn begin(&self, path: &Path) -> Result<FolderUpload, StoreError> {
        let upload = self.store.put_multipart_opts(path, PutMultipartOptions::default()).await?;
        Ok(FolderUpload { upload })
    }

    pub(super) async fn read(&self, path: &Path, range: Option<Range<u64>>) -> Result<Object, StoreError> {
        let found = self.store.get_opts(path, GetOptions::default()).await?;
        let size_bytes = found.meta.size;
        let range = range.unwrap_or(0..size_bytes);
        let bytes = match found.payload {
            GetResultPayload::File(file, _) => chunks(file, range).boxed(),
            GetResultPayload::Stream(_) => return Err(io_error(io::Error::other("a folder gave a stream"))),
        };
        Ok(Object { size_bytes, bytes })
    }

    pub(super) async fn remove(&self, path: &Path) -> Result<(), StoreError> {
        // The one name that a half-written object has: its id is used once.
        let mut partial = self.root.join(path.as_ref()).into_os_string();
        partial.push("#1");
        let removed = spawn_blocking(move || fs::remove_file(partial)).await.map_err(|error| io_error(error.into()))?;
        if let Err(error) = removed
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(io_error(error));
        }
        self.store.delete(path).await
    }

    pub(super) async fn windows(&self, prefix: &Path) -> Result<Vec<String>, StoreError> {
        let folder = self.root.join(prefix.as_ref());
        let names = spawn_blocking(move || names(&folder)).await.map_err(|error| io_error(error.into()))?;
        names.map_err(io_error)
    }

    pub(super) async fn list(&self, prefix: &Path) -> Result<Listing, StoreError> {
        let folder = self.root.join(prefix.as_ref());
        spawn_blocking(move || list(&folder)).await.map_err(|error| io_error(error.into()))?.map_err(io_error)
    }
}

#[derive(Debug)]
pub(super) struct FolderUpload {
    upload: Box<dyn MultipartUpload>,
}

impl FolderUpload {
    pub(super) async fn write_part(&mut self, part: Bytes) -> Result<(), StoreError> {
        self.upload.put_part(part.into()).await
    }

    pub(super) async fn complete(&mut self, last: Bytes) -> Result<(), StoreError> {
        if !last.is_empty() {
            self.write_part(last).await?;
        }
        self.upload.complete().await.map(drop)
    }
}

/// The bytes of `range`, read when they are asked for.
fn chunks(file: File, range: Range<u64>) -> impl stream::Stream<Item = Result<Bytes>> + Send + 'static {
    stream::try_unfold((file, range), |(file, range)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let read = spawn_blocking(move || {
            let end = range.end.min(range.start + CHUNK_BYTES);
            let n_bytes = usize::try_from(end - range.start).expect("a chunk is small");
            let mut chunk = vec![0; n_bytes];
            file.read_exact_at(&mut chunk, range.start)?;
            Ok::<_, io::Error>((chunk, file, end..range.end))
        });
        let (chunk, file, rest) = read.await.map_err(Error::internal)?.map_err(|error| super::failed("read", io_error(error)))?;
        Ok(Some((Bytes::from(chunk), (file, rest))))
    })
}

fn names(folder: &std::path::Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    entries.take(LISTED_MAX).map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn list(folder: &std::path::Path) -> io::Result<Listing> {
    let names = names(folder)?;
    let is_cut = names.len() == LISTED_MAX;
    let mut objects = Vec::with_capacity(names.len());
    for name in names {
        let Some((file_id, is_partial)) = parse_name(&name) else { continue };
        match fs::symlink_metadata(folder.join(&name)).and_then(|metadata| metadata.modified()) {
            Ok(modified_at) => objects.push(Listed { file_id, modified_at: OffsetDateTime::from(modified_at), is_partial }),
            // It was removed, or completed, meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Listing { objects, is_cut })
}
