//! Lists by keyset: a page of items and an opaque cursor to the next one. There is no OFFSET anywhere.

use crate::{Code, Error, Result};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Most items in one page; larger wishes are cut to it.
pub const MAX_LIMIT: i64 = 1_000;

/// `?limit&cursor` as they arrive.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// Items per page: 1 or more, cut to 1000; 50 when absent.
    #[param(minimum = 1, example = 50)]
    pub limit: Option<i64>,
    /// `next_cursor` of the page before.
    #[param(max_length = 128)]
    pub cursor: Option<String>,
}

impl PageQuery {
    pub fn parse(&self) -> Result<PageRequest> {
        page_request(self.limit, self.cursor.as_deref())
    }
}

/// A checked request for a page: `limit` is 1..=1000, `before` the id after which (downwards) it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    pub limit: i64,
    pub before: Option<Uuid>,
}

impl PageRequest {
    /// Rows to ask for: one more than wanted tells whether there is a next page.
    pub fn fetch(&self) -> i64 {
        self.limit + 1
    }
}

pub fn page_request(limit: Option<i64>, cursor: Option<&str>) -> Result<PageRequest> {
    let limit = limit.unwrap_or(50);
    if limit < 1 {
        return Err(Error::new(Code::InvalidQuery, "`limit` must be 1 or more."));
    }
    let before = cursor.map(parse_cursor).transpose()?;
    Ok(PageRequest { limit: limit.min(MAX_LIMIT), before })
}

fn parse_cursor(cursor: &str) -> Result<Uuid> {
    let invalid = || Error::new(Code::InvalidCursor, "`cursor` is not one that this list gave out.");
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| invalid())?;
    Uuid::from_slice(&bytes).map_err(|_| invalid())
}

/// One page on the wire.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Absent (null) on the last page.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Cuts the extra row of [`PageRequest::fetch`] off and makes the cursor from the last row kept.
    pub fn from_rows(mut rows: Vec<T>, request: &PageRequest, id_of: impl Fn(&T) -> Uuid) -> Self {
        let limit = usize::try_from(request.limit).expect("limit is 1..=1000");
        let next_cursor = (rows.len() > limit).then(|| {
            rows.truncate(limit);
            URL_SAFE_NO_PAD.encode(id_of(rows.last().expect("limit is at least one")).as_bytes())
        });
        Self { items: rows, next_cursor }
    }

    pub fn map<U>(self, view: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(view).collect(), next_cursor: self.next_cursor }
    }
}
