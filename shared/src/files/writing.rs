//! A file on its way in: reserved, written part by part while it is hashed, complete in the store, and seen only then.
//!
//! [`Writer::open`] makes the row, with what is reserved of the owner's quota. More is reserved as it grows. A writer that is dropped, or
//! dies, leaves a row that nobody sees, by which everything of it is found and removed.
//!
//! [`Comparison`] takes a content that is there already, as its upload is repeated: nothing of it is kept.

use super::{
    File, name, not_found, sniff,
    storage::Upload,
    store::{self, Finished, Unfinished, sweep::Removed},
    sweep,
};
use crate::{
    Code, Context, Error, Result,
    ids::{FileId, JobId, UserId},
    telemetry::metrics::{FILES_STORED, FILES_WRITING},
};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use tokio::runtime::Handle;

/// By how much a reservation grows: often enough that little is held in vain, seldom enough to cost nothing.
const RESERVED_STEP: u64 = 8 << 20;
/// Where a buffer begins; it grows up to a part.
const BUFFER_LEAST: usize = 64 << 10;
/// Longest type that is kept.
const TYPE_BYTES: usize = 100;

/// A file to be written.
#[derive(Debug, Clone, Copy)]
pub struct NewFile<'a> {
    /// Whose quota pays.
    pub owner_id: UserId,
    /// As it was sent; it is kept without what would mislead.
    pub name: &'a str,
    /// `None`: what the first bytes look like.
    pub content_type: Option<&'a str>,
    /// Reserved at once, where it is known.
    pub size_hint: Option<u64>,
    /// The job that makes it: when it runs again, its file of the same name replaces this one.
    pub made_by: Option<JobId>,
}

/// A file being written.
#[derive(Debug)]
pub struct Writer {
    ctx: Context,
    id: FileId,
    owner_id: UserId,
    name: String,
    content_type: Option<String>,
    said_type: Option<String>,
    made_by: Option<JobId>,
    upload: Upload,
    upload_id: Option<String>,
    reserved_bytes: u64,
    size_bytes: u64,
    max_bytes: u64,
    hash: Sha256,
    /// How it begins.
    head: Vec<u8>,
    /// What is not a part yet.
    buffer: Vec<u8>,
    is_closed: bool,
}

/// A file whose object is complete.
#[derive(Debug, Clone, Copy)]
pub struct Complete {
    sha256: [u8; 32],
}

impl Complete {
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }
}

/// A content that is only looked at: what is it called, and what is its hash?
#[derive(Debug)]
pub struct Comparison {
    name: String,
    size_bytes: u64,
    max_bytes: u64,
    hash: Sha256,
}

impl Comparison {
    /// `name` as it was sent.
    pub fn new(ctx: &Context, name: &str) -> Self {
        let max_bytes = ctx.settings().max_upload_bytes.0 as u64;
        Self { name: name::sanitise(name), size_bytes: 0, max_bytes, hash: Sha256::new() }
    }

    pub fn take(&mut self, chunk: &[u8]) -> Result<()> {
        self.size_bytes += chunk.len() as u64;
        if self.size_bytes > self.max_bytes {
            return Err(too_large(self.max_bytes));
        }
        self.hash.update(chunk);
        Ok(())
    }

    /// As it would be kept.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn complete(&self) -> Complete {
        Complete { sha256: self.hash.clone().finalize().into() }
    }
}

impl Writer {
    /// Refuses at once what there is no room for; nothing is seen of it until [`finish`](Self::finish).
    pub async fn open(ctx: &Context, new: NewFile<'_>) -> Result<Self> {
        let max_bytes = ctx.settings().max_upload_bytes.0 as u64;
        let reserved_bytes = new.size_hint.unwrap_or(0);
        if reserved_bytes > max_bytes {
            return Err(too_large(max_bytes));
        }
        if new.owner_id.0.is_nil() {
            return Err(Error::new(Code::ValidationFailed, "A file needs an owner, and the platform itself is none."));
        }
        let store_id = ctx.files.store_id(ctx).await?;
        let (id, name) = (FileId::new(), name::sanitise(new.name));
        reserve_new(
            ctx,
            &Unfinished {
                id,
                owner_id: new.owner_id,
                name: &name,
                reserved_bytes: whole(reserved_bytes),
                made_by: new.made_by,
                created_at: ctx.clock.now(),
            },
        )
        .await?;
        let upload = match ctx.storage.begin(store_id.key(id)).await {
            Ok(upload) => upload,
            Err(error) => {
                give_up(ctx, id, None).await;
                return Err(error);
            }
        };
        metrics::gauge!(FILES_WRITING).increment(1.0);
        Ok(Self {
            ctx: ctx.clone(),
            id,
            owner_id: new.owner_id,
            name,
            content_type: new.content_type.map(|told| told.chars().take(TYPE_BYTES).collect()),
            said_type: None,
            made_by: new.made_by,
            upload,
            upload_id: None,
            reserved_bytes,
            size_bytes: 0,
            max_bytes,
            hash: Sha256::new(),
            head: Vec::new(),
            buffer: Vec::new(),
            is_closed: false,
        })
    }

    pub fn id(&self) -> FileId {
        self.id
    }

    /// As it is kept.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What has been written so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// What the caller says it is: it decides between kinds of text.
    pub fn say_type(&mut self, said: &str) {
        self.said_type = Some(said.to_owned());
    }

    /// Writes a chunk of any size; returns when no more than a part of it waits. After an error only [`abandon`](Self::abandon) is of use.
    pub async fn write(&mut self, chunk: &[u8]) -> Result<()> {
        let size_bytes = self.size_bytes + chunk.len() as u64;
        if size_bytes > self.max_bytes {
            return Err(too_large(self.max_bytes));
        }
        self.reserve(size_bytes).await?;
        self.size_bytes = size_bytes;
        self.hash.update(chunk);
        let n_missing = sniff::HEAD_BYTES.saturating_sub(self.head.len()).min(chunk.len());
        self.head.extend_from_slice(&chunk[..n_missing]);
        let mut rest = chunk;
        while !rest.is_empty() {
            rest = self.fill(rest);
            if self.buffer.len() == self.upload.part_bytes() && !rest.is_empty() {
                self.write_part().await?;
            }
        }
        Ok(())
    }

    /// Takes as much as a part has room for, and returns the rest.
    fn fill<'c>(&mut self, chunk: &'c [u8]) -> &'c [u8] {
        let part_bytes = self.upload.part_bytes();
        let n_taken = chunk.len().min(part_bytes - self.buffer.len());
        let needed = self.buffer.len() + n_taken;
        if needed > self.buffer.capacity() {
            // Never more than a part, which a vector that grows by itself would not keep to.
            let capacity = needed.max(2 * self.buffer.capacity()).max(BUFFER_LEAST).min(part_bytes);
            self.buffer.reserve_exact(capacity - self.buffer.len());
        }
        self.buffer.extend_from_slice(&chunk[..n_taken]);
        &chunk[n_taken..]
    }

    async fn write_part(&mut self) -> Result<()> {
        if self.upload_id.is_none()
            && let Some(upload_id) = self.upload.announce().await?
        {
            self.upload_id = Some(upload_id.clone());
            if !store::note_upload(&self.ctx.pg, self.id, &upload_id).await? {
                return Err(gone());
            }
        }
        self.upload.write_part(Bytes::from(std::mem::take(&mut self.buffer))).await
    }

    /// Makes sure that `size_bytes` are reserved.
    async fn reserve(&mut self, size_bytes: u64) -> Result<()> {
        if size_bytes <= self.reserved_bytes {
            return Ok(());
        }
        let step = size_bytes.max(self.reserved_bytes + RESERVED_STEP).min(self.max_bytes);
        let reserved = match self.try_reserve(step).await {
            // Where the step does not fit, what there is may.
            Err(error) if error.code == Code::QuotaExceeded && step > size_bytes => {
                self.try_reserve(size_bytes).await?;
                size_bytes
            }
            tried => tried.map(|()| step)?,
        };
        self.reserved_bytes = reserved;
        Ok(())
    }

    async fn try_reserve(&mut self, reserved_bytes: u64) -> Result<()> {
        let mut tx = self.ctx.pg.begin().await?;
        store::commit_lightly(&mut tx).await?;
        if !store::reserve(&mut tx, self.id, whole(reserved_bytes)).await? {
            return Err(gone());
        }
        let replaces = self.made_by.map(|job_id| Replaces { job_id, name: &self.name, before: self.id });
        check_quota(&self.ctx, &mut tx, self.owner_id, replaces).await?;
        Ok(tx.commit().await?)
    }

    /// Completes the object; the file is seen with [`record`](Self::record).
    pub async fn complete(&mut self) -> Result<Complete> {
        self.upload.complete(Bytes::from(std::mem::take(&mut self.buffer))).await?;
        // Apart from the commit that has to be on the disk: nobody else's upload waits for that.
        if self.reserved_bytes != self.size_bytes {
            self.try_reserve(self.size_bytes).await?;
            self.reserved_bytes = self.size_bytes;
        }
        Ok(Complete { sha256: self.hash.clone().finalize().into() })
    }

    /// Makes the file seen, in the caller's transaction; [`keep`](Self::keep) it after the commit.
    pub async fn record(&mut self, tx: &mut PgConnection, complete: Complete) -> Result<File> {
        if let Some(job_id) = self.made_by {
            // Not a newer one: that is of a run that came after this one was given up for lost, and its result names it.
            store::delete_made_by(tx, job_id, &self.name, self.id).await?;
        }
        let content_type = match &self.content_type {
            Some(told) => told,
            None => sniff::content_type(&self.head, &self.name, self.said_type.as_deref()),
        };
        let finished = Finished { id: self.id, sha256: &complete.sha256, content_type, stored_at: self.ctx.clock.now() };
        store::finish(tx, finished).await?.ok_or_else(gone)
    }

    /// It was recorded.
    pub fn keep(mut self) {
        self.is_closed = true;
        metrics::counter!(FILES_STORED, "by" => if self.made_by.is_some() { "job" } else { "upload" }).increment(1);
    }

    /// Completes the object, and then the row: from here on its owner sees it.
    pub async fn finish(mut self) -> Result<File> {
        let complete = self.complete().await?;
        let mut tx = self.ctx.pg.begin().await?;
        let file = self.record(&mut tx, complete).await?;
        tx.commit().await?;
        self.keep();
        Ok(file)
    }

    /// Leaves nothing behind, unless it was recorded after all.
    pub async fn abandon(mut self) {
        self.is_closed = true;
        give_up(&self.ctx, self.id, self.upload_id.take()).await;
    }
}

impl Drop for Writer {
    /// As [`abandon`](Writer::abandon), in the background; where there is none any more, the sweeper does it.
    fn drop(&mut self) {
        metrics::gauge!(FILES_WRITING).decrement(1.0);
        if self.is_closed {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            let (ctx, id, upload_id) = (self.ctx.clone(), self.id, self.upload_id.take());
            runtime.spawn(async move { give_up(&ctx, id, upload_id).await });
        }
    }
}

/// The files that a job made before under the name of the one that it makes now.
#[derive(Debug, Clone, Copy)]
struct Replaces<'a> {
    job_id: JobId,
    name: &'a str,
    before: FileId,
}

async fn reserve_new(ctx: &Context, new: &Unfinished<'_>) -> Result<()> {
    let mut tx = ctx.pg.begin().await?;
    store::commit_lightly(&mut tx).await?;
    store::insert(&mut tx, *new).await?;
    let replaces = new.made_by.map(|job_id| Replaces { job_id, name: new.name, before: new.id });
    check_quota(ctx, &mut tx, new.owner_id, replaces).await?;
    Ok(tx.commit().await?)
}

/// In the transaction of what was added. What it will replace does not count: it takes no more room than before then.
async fn check_quota(ctx: &Context, tx: &mut PgConnection, owner_id: UserId, replaces: Option<Replaces<'_>>) -> Result<()> {
    let mut usage = store::usage(tx, owner_id).await?;
    if let Some(Replaces { job_id, name, before }) = replaces {
        let earlier = store::made_before(tx, job_id, name, before).await?;
        usage.n_files -= earlier.n_files;
        usage.size_bytes -= earlier.size_bytes;
    }
    let (bytes_max, files_max) = {
        let settings = ctx.settings();
        (settings.file_quota_bytes.0, settings.files_per_user_max)
    };
    if usage.n_files > i64::from(files_max) {
        return Err(Error::new(Code::QuotaExceeded, format!("There are {files_max} files already: delete one first.")));
    }
    if usage.size_bytes > whole(bytes_max) {
        let detail = format!("All files together may have {bytes_max} bytes, unfinished uploads included: delete one first.");
        return Err(Error::new(Code::QuotaExceeded, detail));
    }
    Ok(())
}

/// Removes what there is of a file that is not finished. A row that was finished after all stays, with its object.
async fn give_up(ctx: &Context, id: FileId, upload_id: Option<String>) {
    let given_up = async {
        if store::delete_unfinished(&ctx.pg, id).await? {
            sweep::remove(ctx, &Removed { file_id: id, upload_id, was_stored: false, is_first_look: true }).await?;
        }
        Ok::<_, Error>(())
    };
    if let Err(error) = given_up.await {
        tracing::warn!(file_id = %id, %error, "a file that was given up is left to the sweeper");
    }
}

fn too_large(max_bytes: u64) -> Error {
    Error::new(Code::BodyTooLarge, format!("A file may have {max_bytes} bytes."))
}

/// It took longer than anything does that is still alive, or its owner was deleted.
fn gone() -> Error {
    not_found().caused_by("the row of a file that was being written is gone")
}

/// Sizes are far below what PostgreSQL counts to.
fn whole(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
