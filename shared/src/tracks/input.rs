//! What callers say of tracks, checked.

use crate::{
    Error, Result,
    jobs::raw_json,
    page::{PageRequest, page_request},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use validator::{Validate, ValidationError};

/// Largest `attributes` of a track.
const ATTRIBUTES_BYTES: usize = 4 << 10;
/// Longest name, in characters.
const NAME_MAX: usize = 200;

/// A new track.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Bus 7", "external_id": "bus-7", "attributes": {"line": "M10"}}))]
pub struct NewTrack {
    #[validate(custom(function = "one_line"))]
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\u0000-\u001F\u007F-\u009F]*$")]
    pub name: String,
    /// The name that your own systems know it by; no other track of yours has it.
    #[validate(custom(function = "one_line"))]
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\u0000-\u001F\u007F-\u009F]*$")]
    pub external_id: Option<String>,
    /// An object of up to 4 KiB.
    #[schema(value_type = Option<Object>)]
    pub attributes: Option<Box<RawValue>>,
}

/// What of a track is to change; what is absent stays.
#[derive(Debug, Default, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Bus 7a"}))]
pub struct PatchTrack {
    #[validate(custom(function = "one_line"))]
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\u0000-\u001F\u007F-\u009F]*$")]
    pub name: Option<String>,
    #[validate(custom(function = "one_line"))]
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\u0000-\u001F\u007F-\u009F]*$")]
    pub external_id: Option<String>,
    /// Replaces all of them.
    #[schema(value_type = Option<Object>)]
    pub attributes: Option<Box<RawValue>>,
}

/// Which tracks to list, and what beside them.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ListTracks {
    /// Only the track that its owner's systems know by this name.
    #[param(max_length = 200)]
    pub external_id: Option<String>,
    /// Each with its latest point.
    #[serde(default)]
    pub latest: bool,
    /// Each with the stats of the hour of its latest point.
    #[serde(default)]
    pub hour: bool,
    /// Items per page: 1 or more, cut to 1000; 50 when absent.
    #[param(minimum = 1, example = 50)]
    pub limit: Option<i64>,
    /// `next_cursor` of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]{21}[AQgw]$")]
    pub cursor: Option<String>,
}

impl ListTracks {
    pub(super) fn page(&self) -> Result<PageRequest> {
        page_request(self.limit, self.cursor.as_deref())
    }
}

/// Names stand in lists, tables and pages.
fn one_line(name: &str) -> std::result::Result<(), ValidationError> {
    let is_well_formed = (1..=NAME_MAX).contains(&name.chars().count()) && !name.contains(char::is_control);
    let told = || ValidationError::new("one_line").with_message("must have 1 to 200 characters, none a control character".into());
    is_well_formed.then_some(()).ok_or_else(told)
}

/// Refuses attributes that are no object, or too large.
pub(super) fn check_attributes(attributes: Option<&RawValue>) -> Result<()> {
    let Some(attributes) = attributes else { return Ok(()) };
    if !attributes.get().starts_with('{') {
        return Err(Error::invalid("/attributes", "object", "must be an object"));
    }
    raw_json::check(attributes.get(), "attributes", ATTRIBUTES_BYTES)
}
