//! The items of a bulk body, a chunk at a time: `{"<name>": […]}` in JSON, or one item per line in NDJSON, which is
//! parsed as it arrives.

use super::{
    body::{json_error, refuse_list},
    incoming::Incoming,
};
use actix_web::{HttpRequest, dev::Payload, http::header};
use bytes::Bytes;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use shared::{Code, Error, Result, text};

/// Most items of a JSON body.
pub const JSON_ITEMS_MAX: usize = 1_000;

/// Most lines of an NDJSON body: each is answered by more bytes than it may have.
const LINES_MAX: usize = 100_000;

/// A bulk body being read.
pub struct Items {
    form: Form,
    body: Incoming,
    n_lines: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Lines,
}

/// `{"jobs": […]}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow)]
    jobs: Vec<&'a RawValue>,
}

impl std::fmt::Debug for Items {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A body's bytes are nobody's business in a log.
        f.debug_struct("Items").field("form", &self.form).finish_non_exhaustive()
    }
}

impl Items {
    pub fn open(request: &HttpRequest, payload: Payload) -> Result<Self> {
        let body = Incoming::open(request, payload)?;
        Ok(Self { form: form(request)?, body, n_lines: 0 })
    }

    /// Up to `n_max` items, each parsed or with what is wrong with it; `None` after the last.
    pub async fn next_chunk<T: DeserializeOwned>(&mut self, n_max: usize) -> Result<Option<Vec<Result<T>>>> {
        let items = match self.form {
            Form::Json => self.json_items().await?,
            Form::Lines => self.lines(n_max).await?,
        };
        Ok(if items.is_empty() { None } else { Some(items) })
    }

    /// Reads to the end, and gives the bytes back for [`Items::next_chunk`] to go through.
    pub async fn whole(&mut self) -> Result<Bytes> {
        self.read_all().await?;
        Ok(self.body.buffer.copy())
    }

    /// Reads to the end, for callers that hold what others wait for while they go through the items.
    pub async fn read_all(&mut self) -> Result<()> {
        self.body.read_all().await
    }

    async fn json_items<T: DeserializeOwned>(&mut self) -> Result<Vec<Result<T>>> {
        self.body.read_all().await?;
        let body = self.body.buffer.take_all();
        if body.is_empty() {
            return Ok(Vec::new());
        }
        refuse_list(&body)?;
        let envelope: Envelope<'_> = serde_json::from_slice(&body).map_err(|error| json_error(&error, &body))?;
        if !(1..=JSON_ITEMS_MAX).contains(&envelope.jobs.len()) {
            return Err(Error::invalid("/jobs", "length", format!("must hold 1 to {JSON_ITEMS_MAX} jobs")));
        }
        Ok(envelope.jobs.into_iter().map(|item| parse_item(item.get().as_bytes())).collect())
    }

    async fn lines<T: DeserializeOwned>(&mut self, n_max: usize) -> Result<Vec<Result<T>>> {
        let mut items = Vec::new();
        while items.len() < n_max {
            let line = match self.body.buffer.take_line() {
                Some(line) => line,
                None if self.body.read_more().await? => continue,
                None if self.body.buffer.is_empty() => break,
                None => self.body.buffer.take_all(),
            };
            if !line.trim_ascii().is_empty() {
                if self.n_lines == LINES_MAX {
                    return Err(Error::new(Code::BodyTooLarge, format!("A body may have {LINES_MAX} lines.")));
                }
                self.n_lines += 1;
                items.push(parse_item(&line));
            }
        }
        self.body.begin_work()?;
        Ok(items)
    }
}

/// One item of a list, which is judged on its own.
pub(crate) fn parse_item<T: DeserializeOwned>(item: &[u8]) -> Result<T> {
    text::check_json_text(item)?;
    refuse_list(item)?;
    serde_json::from_slice(item).map_err(|error| json_error(&error, item))
}

fn form(request: &HttpRequest) -> Result<Form> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/json" => Ok(Form::Json),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(Form::Lines),
        _ => Err(Error::new(Code::UnsupportedMediaType, "Send `application/json`, or `application/x-ndjson` with one item per line.")),
    }
}
