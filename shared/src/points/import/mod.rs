//! The job kind `tracks.import`: points of a file, taken in as `POST /points` takes them, however large the file is.
//!
//! [`run`] is one attempt. It may be repeated: points that are there already change nothing. In reading order: this file (what is asked, and
//! what it came to), `parsing` (the file into batches, on a thread of its own), `chunks` (how the file gets there), [`run`].

mod chunks;
mod parsing;
pub mod run;
#[cfg(test)]
mod tests;

use crate::{
    Caller, Code, Context, Error, FieldError, Result,
    files::{self, File},
    ids::{FileId, TrackId},
    json_words,
    tracks::manage,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub const KIND: &str = "tracks.import";

/// Refusals that the result lists: the first ones say enough, and a result has a size.
const LISTED_MAX: usize = 50;
/// Longest text of a refusal, in bytes: some repeat what they refuse.
const DETAIL_MAX: usize = 300;

/// The payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportTracks {
    pub file_id: FileId,
    /// `None` goes by what the file is called, or else by what it is taken for.
    pub format: Option<Format>,
    /// Track of the points that name none. Those of GPX never do.
    pub track_id: Option<TrackId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Csv,
    Ndjson,
    Gpx,
    Geojson,
}

/// What a run came to.
#[derive(Debug, Serialize)]
pub struct Imported {
    pub format: Format,
    /// Points that were accepted, as `POST /points` accepts them.
    pub accepted: u64,
    pub rejected: u64,
    /// The first of them.
    pub rejects: Vec<Reject>,
}

/// What is wrong with an item of the file, by its place among the items, from 0.
#[derive(Debug, Serialize)]
pub struct Reject {
    pub index: u64,
    pub code: &'static str,
    pub detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

impl Format {
    /// By the end of its name, since many forms look like plain text or JSON; else by its type.
    fn of(file: &File) -> Option<Self> {
        let (_, extension) = file.name.rsplit_once('.').unwrap_or_default();
        match extension.to_ascii_lowercase().as_str() {
            "csv" => return Some(Self::Csv),
            "ndjson" | "jsonl" => return Some(Self::Ndjson),
            "gpx" => return Some(Self::Gpx),
            "geojson" => return Some(Self::Geojson),
            _ => {}
        }
        match file.content_type.split(';').next().unwrap_or_default().trim() {
            "text/csv" => Some(Self::Csv),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Some(Self::Ndjson),
            "application/gpx+xml" => Some(Self::Gpx),
            "application/geo+json" => Some(Self::Geojson),
            _ => None,
        }
    }
}

impl ImportTracks {
    /// What the file is read as; refused where that cannot be told, or no track is named that it needs.
    fn format(&self, file: &File) -> Result<Format> {
        let format = self.format.or_else(|| Format::of(file)).ok_or_else(|| {
            let detail = "must be said, for the file's name does not tell: `csv`, `ndjson`, `gpx` or `geojson`";
            Error::invalid("/payload/format", "required", detail)
        })?;
        if format == Format::Gpx && self.track_id.is_none() {
            return Err(Error::invalid("/payload/track_id", "required", "must be there, for the points of GPX name no track"));
        }
        Ok(format)
    }
}

impl Reject {
    fn new(index: u64, error: Error) -> Self {
        let mut detail = error.detail.into_owned();
        detail.truncate(detail.floor_char_boundary(DETAIL_MAX));
        Self { index, code: error.code.as_str(), detail, errors: error.fields }
    }
}

/// Refuses a submit whose payload is none, or names what the caller may not read or write.
pub(crate) async fn check(ctx: &Context, caller: &Caller, payload: Option<&RawValue>) -> Result<()> {
    let payload = payload.ok_or_else(|| Error::invalid("/payload", "required", "must name the file to import"))?;
    let asked: ImportTracks = json_words::parse_at(payload.get(), "/payload")?;
    let unknown = |what: &'static str| {
        move |error: Error| {
            if error.code != Code::NotFound {
                return error;
            }
            let (pointer, code) = (format!("/payload/{what}_id"), format!("unknown_{what}"));
            Error::invalid(pointer, code, format!("names no {what}, or one that is not yours"))
        }
    };
    let file = files::manage::get(ctx, caller, asked.file_id).await.map_err(unknown("file"))?;
    asked.format(&file)?;
    if let Some(track_id) = asked.track_id {
        manage::require_writable(ctx, caller, track_id).await.map_err(unknown("track"))?;
    }
    Ok(())
}
