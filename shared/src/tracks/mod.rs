//! Tracks: devices or routes that are followed. Their points are in [`points`](crate::points).
//!
//! In reading order: this file (types), [`input`] (what callers say), [`manage`] (what they do), [`report`] (what a job tells of them),
//! `store` (the SQL).

pub mod input;
pub mod manage;
pub mod report;
mod store;

pub use input::{ListTracks, NewTrack, PatchTrack};

use crate::{
    ids::{TrackId, UserId},
    points::{HourStats, PointView},
};
use serde::Serialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use utoipa::ToSchema;

pub(crate) use store::owners;

/// A track as callers see it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(example = json!({
    "id": "01a1fb40-f998-71ea-83d1-3bd51ccbb3da", "name": "Bus 7", "external_id": "bus-7", "attributes": {"line": "M10"},
    "owner_id": "01a1fb40-0000-7000-8000-000000000001", "created_at": "2026-11-20T23:19:58.104Z", "updated_at": "2026-11-20T23:19:58.104Z"
}))]
pub struct Track {
    pub id: TrackId,
    pub name: String,
    /// The name that its owner's own systems know it by; no other track of the owner has it.
    #[schema(required)]
    pub external_id: Option<String>,
    #[schema(value_type = Option<Object>, required)]
    pub attributes: Option<Box<RawValue>>,
    pub owner_id: UserId,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// A track in a list, with what was asked for beside it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ListedTrack {
    #[serde(flatten)]
    pub track: Track,
    /// With `latest=true`: its latest point, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub latest: Option<PointView>,
    /// With `hour=true`: the hour of its latest point, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub hour: Option<HourStats>,
}
