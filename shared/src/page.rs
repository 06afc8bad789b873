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

/// Rows that are read first of a page that may be large, and at once after those: what is beyond the page's bytes is read for nothing, and PostgreSQL
/// would send all of a page's rows, however large.
const READ_FIRST: i64 = 16;
const READ_AT_ONCE: i64 = 32;

/// Reads until the page is full, or holds as many bytes as one answer may. `look` tells the key of an item, and its bytes; `read` so many of those
/// below a key.
pub(crate) async fn fill<T, E>(
    request: &PageRequest,
    bytes_max: usize,
    look: impl Fn(&T) -> (Uuid, usize),
    read: impl AsyncFn(Option<Uuid>, i64) -> std::result::Result<Vec<T>, E>,
) -> Result<Page<T>>
where
    Error: From<E>,
{
    let limit = usize::try_from(request.limit).expect("limit is 1..=1000");
    let (mut items, mut bytes, mut last) = (Vec::new(), 0, None);
    loop {
        let n_left = request.fetch() - i64::try_from(items.len()).expect("items are at most 1000");
        let n_wanted = n_left.min(if items.is_empty() { READ_FIRST } else { READ_AT_ONCE });
        let rows = read(last.or(request.before), n_wanted).await?;
        let is_last = i64::try_from(rows.len()).is_ok_and(|n_rows| n_rows < n_wanted);
        for row in rows {
            let (key, n_bytes) = look(&row);
            bytes += n_bytes;
            let is_full = items.len() == limit || (bytes > bytes_max && !items.is_empty());
            if let Some(last) = last.filter(|_| is_full) {
                return Ok(Page { items, next_cursor: Some(cursor_after(&last)) });
            }
            last = Some(key);
            items.push(row);
        }
        if is_last {
            return Ok(Page { items, next_cursor: None });
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// The pages of items that are of these sizes, with the next cursor's key; and how many rows each read asked for.
    async fn pages(sizes: &[usize], limit: i64, bytes_max: usize) -> (Vec<usize>, Vec<i64>) {
        let all: Vec<_> = sizes.iter().enumerate().map(|(n, size)| (Uuid::from_u128((sizes.len() - n) as u128), *size)).collect();
        let (mut pages, reads, mut before) = (Vec::new(), RefCell::new(Vec::new()), None);
        loop {
            let read = async |below: Option<Uuid>, n_wanted: i64| {
                reads.borrow_mut().push(n_wanted);
                let rest = all.iter().filter(|(key, _)| below.is_none_or(|below| *key < below));
                Ok::<_, sqlx::Error>(rest.take(usize::try_from(n_wanted).unwrap()).copied().collect())
            };
            let page = fill(&PageRequest { limit, before }, bytes_max, |item| *item, read).await.unwrap();
            pages.push(page.items.len());
            match page.next_cursor {
                Some(cursor) => before = Some(parse_cursor(&cursor).unwrap()),
                None => return (pages, reads.into_inner()),
            }
        }
    }

    #[tokio::test]
    async fn a_page_is_read_in_pieces_until_it_is_full_or_holds_its_bytes() {
        assert_eq!(pages(&[], 50, 100).await, (vec![0], vec![16]));
        assert_eq!(pages(&[1; 60], 50, 100).await, (vec![50, 10], vec![16, 32, 3, 16]));
        assert_eq!(pages(&[1; 16], 16, 100).await, (vec![16], vec![16, 1]));
        assert_eq!(pages(&[40; 5], 50, 100).await, (vec![2, 2, 1], vec![16; 3]), "100 bytes hold two");
        assert_eq!(pages(&[200; 3], 50, 100).await.0, [1; 3], "one is given, however large");
        let mixed = [[1; 40].as_slice(), &[90; 2], &[1; 3]].concat();
        assert_eq!(pages(&mixed, 1_000, 100).await.0, [40, 1, 4]);
    }
}
