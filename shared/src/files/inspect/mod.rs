//! The job kind `files.inspect`: reads a file from end to end, says whether it is what was stored, and what it is, and makes a thumbnail of an
//! image. [`image`]: the part that images may do harm to; `beside`: what they take in memory beside their pixels.

mod beside;
mod image;

use super::{
    File,
    content::{self, Content},
    manage, sniff,
    writing::{NewFile, Writer},
};
use crate::{
    Caller, Code, Context, Error, Result,
    ids::{FileId, JobId, UserId},
    json_words,
};
use futures_util::TryStreamExt;
use image::{Drawn, Limits};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub const KIND: &str = "files.inspect";

/// The payload.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inspect {
    pub file_id: FileId,
    /// Whether an image gets a thumbnail, which is a file of its own.
    #[serde(default = "yes")]
    pub thumbnail: bool,
}

fn yes() -> bool {
    true
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    pub file_id: FileId,
    pub size_bytes: u64,
    pub sha256: String,
    /// Whether the content is the one that was stored.
    pub is_intact: bool,
    pub content_type: String,
    /// `None` for what is no image that can be looked into (PNG, JPEG, GIF, WebP).
    pub image: Option<Image>,
    pub thumbnail: Option<File>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Image {
    pub format: &'static str,
    pub width: Option<u32>,
    pub height: Option<u32>,
    /// Why there is no thumbnail.
    pub problem: Option<Problem>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// `too_large` or `broken`.
    pub code: &'static str,
    pub detail: String,
}

/// How many images a process unpacks at once: each may take as much memory as an image may.
const IMAGES_AT_ONCE: usize = 1;

/// Whose turn it is to unpack an image.
#[derive(Debug, Clone)]
pub struct ImageTurns(Arc<Semaphore>);

impl Default for ImageTurns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(IMAGES_AT_ONCE)))
    }
}

/// Refuses a submit that names no file of the caller's, or that they may not read.
pub(crate) async fn check(ctx: &Context, caller: &Caller, payload: Option<&RawValue>) -> Result<()> {
    let payload = payload.ok_or_else(|| Error::invalid("/payload", "required", "must name a file"))?;
    let inspect: Inspect = json_words::parse_at(payload.get(), "/payload")?;
    let readable = manage::require_readable(ctx, caller, inspect.file_id).await;
    readable.map_err(|error| if error.code == Code::NotFound { unknown_file() } else { error })
}

/// Whether a job with this payload makes a file; one with no payload of ours makes nothing.
pub(crate) fn makes_file(payload: &RawValue) -> bool {
    serde_json::from_str::<Inspect>(payload.get()).is_ok_and(|inspect| inspect.thumbnail)
}

fn unknown_file() -> Error {
    Error::invalid("/payload/file_id", "unknown_file", "names no file, or one that is not yours")
}

impl Inspect {
    /// One run, in the name of the job's owner. A run that is repeated makes its thumbnail again, in place of the first.
    pub async fn run(&self, ctx: &Context, turns: &ImageTurns, job_id: JobId, owner_id: UserId) -> Result<Report> {
        let content = content::open_for_job(ctx, owner_id, self.file_id).await?;
        let file = content.file.clone();
        let limits = Limits::new(&ctx.settings());
        // The type that was seen when it was stored says whether it is worth keeping while it is read.
        let format = image::format_of(&file.content_type);
        let turn = match format {
            Some(_) => Some(Arc::clone(&turns.0).acquire_owned().await.map_err(Error::internal)?),
            None => None,
        };
        let kept_max = if format.is_some() && file.size_bytes <= limits.file_bytes { limits.file_bytes } else { sniff::HEAD_BYTES as u64 };
        let (sha256, kept) = read(content, kept_max).await?;
        let mut report = Report {
            file_id: file.id,
            size_bytes: file.size_bytes,
            is_intact: sha256 == file.sha256,
            sha256,
            content_type: sniff::content_type(&kept[..kept.len().min(sniff::HEAD_BYTES)], &file.name, Some(&file.content_type)).to_owned(),
            image: None,
            thumbnail: None,
        };
        if let (Some(format), Some(turn)) = (format, turn) {
            self.look_into(ctx, &mut report, Opened { file: &file, format, kept, limits, turn, job_id, owner_id }).await?;
        }
        Ok(report)
    }

    async fn look_into(&self, ctx: &Context, report: &mut Report, opened: Opened<'_>) -> Result<()> {
        let Opened { file, format, kept, limits, turn, job_id, owner_id } = opened;
        let format_name = image::name_of(format);
        if file.size_bytes > limits.file_bytes {
            let detail = format!("the file has more than {} bytes", limits.file_bytes);
            let problem = Some(Problem { code: "too_large", detail });
            report.image = Some(Image { format: format_name, width: None, height: None, problem });
            return Ok(());
        }
        let wants_thumbnail = self.thumbnail;
        // The turn goes along: what was begun there goes on, whatever becomes of this job.
        let drawn = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            image::draw(&kept, format, limits, wants_thumbnail)
        });
        let Drawn { width, height, problem, thumbnail } = drawn.await.unwrap_or_else(|panic| Drawn::broken(panic.to_string()));
        report.image = Some(Image { format: format_name, width, height, problem });
        if let Some((content_type, bytes)) = thumbnail {
            let name = format!("{} (thumbnail).{}", stem(&file.name), image::ending_of(content_type));
            let new = NewFile {
                owner_id,
                name: &name,
                content_type: Some(content_type),
                size_hint: Some(bytes.len() as u64),
                made_by: Some(job_id),
            };
            let mut writer = Writer::open(ctx, new).await?;
            writer.write(&bytes).await?;
            report.thumbnail = Some(writer.finish().await?);
        }
        Ok(())
    }
}

struct Opened<'a> {
    file: &'a File,
    format: ::image::ImageFormat,
    kept: Vec<u8>,
    limits: Limits,
    turn: OwnedSemaphorePermit,
    job_id: JobId,
    owner_id: UserId,
}

/// Hashes all of it, and keeps the beginning.
async fn read(content: Content, kept_max: u64) -> Result<(String, Vec<u8>)> {
    let (mut hash, mut kept) = (Sha256::new(), Vec::new());
    let kept_max = usize::try_from(kept_max.min(content.file.size_bytes)).map_err(Error::internal)?;
    kept.reserve_exact(kept_max);
    let mut bytes = content.into_stream();
    while let Some(chunk) = bytes.try_next().await? {
        hash.update(&chunk);
        let n_kept = (kept_max - kept.len()).min(chunk.len());
        kept.extend_from_slice(&chunk[..n_kept]);
    }
    Ok((super::hexadecimal(&hash.finalize()), kept))
}

fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}
