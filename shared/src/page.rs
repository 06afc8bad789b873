//! Lists by keyset: a page of items and an opaque cursor to the next one. There is no OFFSET anywhere.

use crate::{Code, Error, Result};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Most items in one page; larger wishes are cut to it.
pub const MAX_LIMIT: i64 = 1_000;

/// Longest cursor that is looked at; those we give out are shorter.
const CURSOR_MAX: usize = 400;

/// `?limit&cursor` as they arrive.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// Items per page: 1 or more, cut to 1000; 50 when absent.
    #[param(minimum = 1, example = 50)]
    pub limit: Option<i64>,
    /// `next_cursor` of the page before.
    #[param(max_length = 200)]
    pub cursor: Option<String>,
}

impl PageQuery {
    pub fn parse<K: Key>(&self) -> Result<PageRequest<K>> {
        page_request(self.limit, self.cursor.as_deref())
    }
}

/// As [`PageQuery`] for lists by id, whose cursors have a form that can be told.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct IdPageQuery {
    /// Items per page: 1 or more, cut to 1000; 50 when absent.
    #[param(minimum = 1, example = 50)]
    pub limit: Option<i64>,
    /// `next_cursor` of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]{21}[AQgw]$")]
    pub cursor: Option<String>,
}

impl IdPageQuery {
    pub fn parse(&self) -> Result<PageRequest> {
        page_request(self.limit, self.cursor.as_deref())
    }
}

/// What a list is sorted by, and a cursor holds: an id, a name, an ordinal.
pub trait Key: Sized {
    fn to_bytes(&self) -> Vec<u8>;
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

impl Key for Uuid {
    fn to_bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::from_slice(bytes).ok()
    }
}

impl Key for i32 {
    fn to_bytes(&self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self::from_be_bytes(bytes.try_into().ok()?))
    }
}

impl Key for String {
    fn to_bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::from_utf8(bytes.to_vec()).ok().filter(|text| !text.contains('\0'))
    }
}

/// A checked request for a page: `limit` is 1..=1000, `before` the key after which it starts (downwards for ids).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest<K = Uuid> {
    pub limit: i64,
    pub before: Option<K>,
}

impl<K> PageRequest<K> {
    /// Rows to ask for: one more than wanted tells whether there is a next page.
    pub fn fetch(&self) -> i64 {
        self.limit + 1
    }
}

pub fn page_request<K: Key>(limit: Option<i64>, cursor: Option<&str>) -> Result<PageRequest<K>> {
    let limit = limit.unwrap_or(50);
    if limit < 1 {
        return Err(Error::new(Code::InvalidQuery, "`limit` must be 1 or more."));
    }
    let before = cursor.map(parse_cursor).transpose()?;
    Ok(PageRequest { limit: limit.min(MAX_LIMIT), before })
}

/// The cursor of a page that starts after `key`.
pub fn cursor_after<K: Key>(key: &K) -> String {
    URL_SAFE_NO_PAD.encode(key.to_bytes())
}

fn parse_cursor<K: Key>(cursor: &str) -> Result<K> {
    let invalid = || Error::new(Code::InvalidCursor, "`cursor` is not one that this list gave out.");
    if cursor.len() > CURSOR_MAX {
        return Err(invalid());
    }
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| invalid())?;
    K::from_bytes(&bytes).ok_or_else(invalid)
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
    pub fn from_rows<K: Key>(mut rows: Vec<T>, request: &PageRequest<K>, key_of: impl Fn(&T) -> K) -> Self {
        let limit = usize::try_from(request.limit).expect("limit is 1..=1000");
        let next_cursor = (rows.len() > limit).then(|| {
            rows.truncate(limit);
            cursor_after(&key_of(rows.last().expect("limit is at least one")))
        });
        Self { items: rows, next_cursor }
    }

    pub fn map<U>(self, view: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(view).collect(), next_cursor: self.next_cursor }
    }
}
