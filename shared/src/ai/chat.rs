//! One exchange with an OpenAI-compatible API: asked for as a stream, and read as it comes.

use super::{
    Message, Prompt,
    sse::{Cutter, TooLong},
};
use crate::{
    Context,
    outbound::{Guard, Opened, Outbound, Refused, Request, SendError, Target, retry_after::retry_after},
};
use hyper::{
    HeaderMap, Method,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT},
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::{collections::VecDeque, time::Duration};
use time::OffsetDateTime;

/// Of an answer that is no completion, what is kept of its body.
const EXCERPT_MAX: usize = 1_024;

/// While too many names are looked up at once.
const LOOKUPS_BUSY_FOR: Duration = Duration::from_secs(1);

/// Why there is no completion.
#[derive(Debug)]
pub(super) enum Failure {
    /// Its breaker is open: it is left alone for so long.
    Resting(Duration),
    /// It has too much to do, and says so.
    Busy { after: Option<Duration> },
    /// It is not well.
    Down { code: &'static str, why: String, after: Option<Duration> },
    /// It is well, and may answer another time: what is wrong is for the operator to mend.
    Later { code: &'static str, why: String },
    /// Nothing will make this prompt good.
    Never { code: &'static str, why: String },
}

impl Failure {
    fn down(code: &'static str, why: impl Into<String>) -> Self {
        Self::Down { code, why: why.into(), after: None }
    }

    pub(super) fn timeout(patience: Duration) -> Self {
        Self::down("ai_timeout", format!("it was not done within {} ms", patience.as_millis()))
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Refused(Refused::Busy) => Self::Resting(LOOKUPS_BUSY_FOR),
            SendError::Refused(refused @ (Refused::Malformed | Refused::NotPublic | Refused::Unresolvable)) => {
                Self::down("ai_connect", format!("AI_BASE_URL {refused}"))
            }
            SendError::Timeout(patience) => Self::timeout(patience),
            SendError::Connect(error) => Self::down("ai_connect", format!("the connection failed: {error}")),
            SendError::Broken(error) => Self::down("ai_broken", format!("the answer broke off: {error}")),
        }
    }
}

/// What a completion came to: the result of its job.
#[derive(Debug, Default, Serialize)]
pub(super) struct Reply {
    pub(super) text: String,
    /// The one that answered, as it calls itself.
    pub(super) model: Option<String>,
    /// `stop` where it came to its end, `length` where `max_tokens` cut it off.
    pub(super) finish_reason: Option<String>,
    /// `null` where the service does not tell.
    pub(super) usage: Option<Usage>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Usage {
    #[serde(default)]
    pub(super) prompt_tokens: u64,
    #[serde(default)]
    pub(super) completion_tokens: u64,
    #[serde(default)]
    pub(super) total_tokens: u64,
}

/// The body of a request.
#[derive(Debug, Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Message>,
    max_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    stream: bool,
    stream_options: StreamOptions,
}

#[derive(Debug, Serialize)]
struct StreamOptions {
    include_usage: bool,
}

/// A question, and where it goes.
#[derive(Debug)]
pub(super) struct Question {
    target: Target,
    key: Option<SecretString>,
    body: Vec<u8>,
    answer_bytes_max: usize,
}

impl Question {
    /// As the settings stand now: a job may have been submitted under others.
    pub(super) fn new(ctx: &Context, prompt: &Prompt) -> Result<Self, Failure> {
        let misconfigured = |why: &str| Failure::Later { code: "ai_misconfigured", why: why.to_owned() };
        let settings = ctx.settings();
        let base = settings.ai_base_url.as_deref().ok_or_else(|| misconfigured("AI_BASE_URL is not set"))?;
        let url = format!("{}/chat/completions", base.trim_end_matches('/'));
        let target = Guard::anywhere().parse(&url).map_err(|refused| misconfigured(&format!("AI_BASE_URL {refused}")))?;
        let model = prompt.model.as_ref().filter(|model| settings.ai_model.contains(model)).or(settings.ai_model.first());
        let body = Body {
            model: model.ok_or_else(|| misconfigured("AI_MODEL is not set"))?,
            messages: prompt.conversation(),
            max_tokens: prompt.max_tokens.unwrap_or(u32::MAX).min(settings.ai_max_tokens),
            temperature: prompt.temperature,
            stream: true,
            stream_options: StreamOptions { include_usage: true },
        };
        let body = serde_json::to_vec(&body).map_err(|error| Failure::Never { code: "ai_prompt", why: error.to_string() })?;
        Ok(Self { target, key: settings.ai_api_key.clone(), body, answer_bytes_max: settings.ai_answer_max_bytes.0 })
    }

    /// What its breaker is called: nobody else's, though receivers may live under the same origin.
    pub(super) fn breaker(&self) -> String {
        format!("ai:{}", self.target.origin())
    }

    /// Asks. When this returns, the service has begun to answer.
    pub(super) async fn ask(self, outbound: &Outbound, patience: Duration, now: OffsetDateTime) -> Result<Answer, Failure> {
        let mut headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (ACCEPT, HeaderValue::from_static("text/event-stream, application/json")),
            (USER_AGENT, HeaderValue::from_static(concat!("millrace/", env!("CARGO_PKG_VERSION")))),
        ]);
        if let Some(key) = &self.key {
            let value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()));
            let mut value = value.map_err(|_| Failure::Later { code: "ai_misconfigured", why: "AI_API_KEY is no key".to_owned() })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let request = Request { target: self.target, method: Method::POST, headers, body: self.body.into(), timeout: patience };
        let opened = outbound.open(request).await?;
        if !(200..300).contains(&opened.status) {
            return Err(refused(opened, self.key.as_ref(), now).await);
        }
        let content_type = opened.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        // There are servers that stream under another name, and servers that do not stream.
        let how = if content_type.contains("json") { How::AtOnce(Vec::new()) } else { How::Streamed(Cutter::default()) };
        Ok(Answer { opened, how, n_bytes_left: self.answer_bytes_max, bits: VecDeque::new(), is_done: false, reply: Reply::default() })
    }
}

/// What an answer means that is no completion.
async fn refused(mut opened: Opened, key: Option<&SecretString>, now: OffsetDateTime) -> Failure {
    let status = opened.status;
    let mut body = Vec::new();
    while body.len() < EXCERPT_MAX {
        let Ok(Some(data)) = opened.next().await else { break };
        body.extend_from_slice(&data[..data.len().min(EXCERPT_MAX - body.len())]);
    }
    let mut body = String::from_utf8_lossy(&body).into_owned();
    // Some tell the key that they do not know.
    if let Some(key) = key.map(ExposeSecret::expose_secret).filter(|key| !key.is_empty()) {
        body = body.replace(key, "***");
    }
    let why = format!("the service answered {status}: {body}");
    let after = retry_after(&opened.headers, now);
    match status {
        429 => Failure::Busy { after },
        408 | 409 | 425 | 500.. => Failure::Down { code: "ai_unavailable", why, after },
        400 | 404 | 413 | 415 | 422 => Failure::Never { code: "ai_refused", why },
        // Redirects are not followed; keys are for the operator to mend.
        _ => Failure::Later { code: "ai_misconfigured", why },
    }
}

/// How an answer comes.
#[derive(Debug)]
enum How {
    Streamed(Cutter),
    AtOnce(Vec<u8>),
}

/// A completion that is on its way.
#[derive(Debug)]
pub(super) struct Answer {
    opened: Opened,
    how: How,
    n_bytes_left: usize,
    /// Pieces of text that have come and were not handed out.
    bits: VecDeque<String>,
    is_done: bool,
    reply: Reply,
}

/// An event of the stream, or the whole where it is none.
#[derive(Debug, Deserialize)]
struct Chunk {
    model: Option<String>,
    choices: Option<Vec<Choice>>,
    usage: Option<Usage>,
    error: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(alias = "message")]
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Delta {
    content: Option<String>,
}

impl Answer {
    /// The next piece of text, `None` at the end. What is dropped before it is done loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<String>, Failure> {
        loop {
            if let Some(bit) = self.bits.pop_front() {
                return Ok(Some(bit));
            }
            if self.is_done {
                return Ok(None);
            }
            match self.opened.next().await? {
                Some(bytes) => self.take(&bytes)?,
                None => self.end()?,
            }
        }
    }

    /// What it came to, after the end.
    pub(super) fn into_reply(self) -> Reply {
        self.reply
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let too_long = || Failure::Never { code: "ai_too_long", why: "the answer is longer than AI_ANSWER_MAX_BYTES".to_owned() };
        self.n_bytes_left = self.n_bytes_left.checked_sub(bytes.len()).ok_or_else(too_long)?;
        match &mut self.how {
            How::AtOnce(body) => body.extend_from_slice(bytes),
            How::Streamed(cutter) => {
                let events = cutter.cut(bytes).map_err(|TooLong| Failure::down("ai_garbage", "an event of the answer has no end"))?;
                for event in events {
                    self.read(&event)?;
                }
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Failure> {
        match &mut self.how {
            How::AtOnce(body) => {
                let body = String::from_utf8_lossy(body).into_owned();
                self.read(&body)?;
            }
            How::Streamed(cutter) => {
                if let Some(event) = cutter.end() {
                    self.read(&event)?;
                }
                // Some end without a `[DONE]`; without a reason to end, it was cut off.
                if !self.is_done && self.reply.finish_reason.is_none() {
                    return Err(Failure::down("ai_broken", "the answer broke off"));
                }
            }
        }
        self.is_done = true;
        Ok(())
    }

    fn read(&mut self, event: &str) -> Result<(), Failure> {
        if event.trim() == "[DONE]" {
            self.is_done = true;
            return Ok(());
        }
        let garbage = |error: serde_json::Error| Failure::down("ai_garbage", format!("the answer is no completion: {error}"));
        let chunk: Chunk = serde_json::from_str(event).map_err(garbage)?;
        if let Some(error) = chunk.error {
            let text = error.get("message").and_then(serde_json::Value::as_str).map_or_else(|| error.to_string(), ToOwned::to_owned);
            return Err(Failure::down("ai_error", text));
        }
        self.reply.model = chunk.model.or(self.reply.model.take());
        self.reply.usage = chunk.usage.or(self.reply.usage.take());
        // One was asked for.
        if let Some(choice) = chunk.choices.unwrap_or_default().into_iter().next() {
            self.reply.finish_reason = choice.finish_reason.or(self.reply.finish_reason.take());
            if let Some(text) = choice.delta.and_then(|delta| delta.content).filter(|text| !text.is_empty()) {
                // What PostgreSQL cannot keep.
                let text = if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text };
                self.reply.text.push_str(&text);
                self.bits.push_back(text);
            }
        }
        Ok(())
    }
}
