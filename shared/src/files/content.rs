//! A file on its way out: its bytes as they are asked for, all or some of them.

use super::{File, lost, not_found, store};
use crate::{
    Context, Error, Result,
    ids::{FileId, UserId},
    telemetry::metrics::FILES_READ_BYTES,
};
use bytes::Bytes;
use futures_util::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use std::{fmt, io, ops::Range};
use tokio::io::AsyncBufRead;
use tokio_util::io::StreamReader;

/// An open content. Nothing of it is read ahead.
pub struct Content {
    pub file: File,
    bytes: BoxStream<'static, Result<Bytes>>,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Content {
    /// Chunks as the store gives them, at most 64 KiB each from a folder. An error ends it.
    pub fn into_stream(self) -> BoxStream<'static, Result<Bytes>> {
        self.bytes
    }

    /// The same for readers.
    pub fn into_reader(self) -> impl AsyncBufRead + Send + Unpin + 'static {
        StreamReader::new(self.bytes.map_err(io::Error::other))
    }
}

/// Opens a file that its caller may read; `range` is within it, and `None` is all.
pub async fn open(ctx: &Context, file: File, range: Option<Range<u64>>) -> Result<Content> {
    let store_id = ctx.files.store_id(ctx).await?;
    let expected = range.as_ref().map_or(file.size_bytes, |range| range.end - range.start);
    let Some(object) = ctx.storage.read(store_id.key(file.id), range).await? else {
        // It may have been deleted since its row was read.
        let is_there = store::by_id(&ctx.pg, file.id, None).await?.is_some();
        return Err(if is_there { lost() } else { not_found() });
    };
    if object.size_bytes != file.size_bytes {
        return Err(lost().caused_by(format!("the object has {} bytes, and should have {}", object.size_bytes, file.size_bytes)));
    }
    Ok(Content { file, bytes: exactly(expected, object.bytes).boxed() })
}

/// The content of a file that the owner of a job may read: their own, and everybody's if they are operators, or the platform itself.
pub async fn open_for_job(ctx: &Context, job_owner: UserId, id: FileId) -> Result<Content> {
    let file = match job_owner.0.is_nil() {
        true => store::by_id(&ctx.pg, id, None).await?,
        false => store::by_id_for(&ctx.pg, id, job_owner).await?,
    };
    open(ctx, file.ok_or_else(not_found)?, None).await
}

/// The bytes, and an error in place of an end that comes too early: who reads on would take half of a file for the whole.
fn exactly(n_bytes: u64, bytes: BoxStream<'static, Result<Bytes>>) -> impl stream::Stream<Item = Result<Bytes>> + Send {
    stream::try_unfold((n_bytes, bytes), |(n_left, mut bytes)| async move {
        match bytes.try_next().await? {
            Some(chunk) => {
                metrics::counter!(FILES_READ_BYTES).increment(chunk.len() as u64);
                let n_left = n_left.checked_sub(chunk.len() as u64).ok_or_else(|| Error::internal("the store sent too much"))?;
                Ok(Some((chunk, (n_left, bytes))))
            }
            None if n_left == 0 => Ok(None),
            None => Err(lost().caused_by(format!("{n_left} bytes are missing at the end"))),
        }
    })
}
