//! One delivery: where it goes, what is sent, and what the answer means for the job.

use super::{
    EndpointState, Headers, KIND,
    callbacks::Ticket,
    input::{SubmitTarget, TIMEOUT_MS, TargetMethod, milliseconds},
    manage,
    store::{self, EndpointRow},
};
use crate::{
    Context, Error, Result,
    accounts::Origin,
    ids::{EndpointId, UserId},
    jobs::{
        JobError,
        engine::{Outcome, held::LeasedJob},
    },
    outbound::{
        Answer, Guard, Refused, Request, SendError,
        breaker::{self, Permit},
        pace,
        retry_after::retry_after,
        signature::{Secret, sign},
    },
    telemetry::traces::{self, Kind, Span, Whose},
};
use hyper::{
    HeaderMap, Method,
    header::{HeaderName, HeaderValue},
};
use serde_json::value::to_raw_value;
use std::time::Duration;
use time::OffsetDateTime;

/// Jobs of an endpoint that is paused look again after so long.
const PAUSED_FOR: Duration = Duration::from_secs(30);
/// Jobs whose receiver's name could not be looked up, since too many are, try again after so long, and up to twice that.
const BUSY_FOR: Duration = Duration::from_secs(1);
/// Of an answer's body, what is kept with the job.
const EXCERPT_MAX: usize = 2_048;
const USER_AGENT: &str = concat!("millrace/", env!("CARGO_PKG_VERSION"));

/// Where deliveries go, and how.
#[derive(Debug)]
pub(super) struct Destination {
    endpoint_id: Option<EndpointId>,
    url: String,
    method: TargetMethod,
    headers: Headers,
    pub(super) timeout: Duration,
    /// Deliveries per second.
    max_rate: Option<f64>,
    /// How long the receiver may take to call back, if it may.
    pub(super) callback_ttl: Option<Duration>,
    /// The newest first; none for a URL that is nobody's endpoint.
    secrets: Vec<Secret>,
}

impl Destination {
    pub(super) fn of_endpoint(ctx: &Context, row: EndpointRow, method: TargetMethod) -> Self {
        let previous = row.previous_secret.filter(|_| row.previous_until.is_some_and(|until| until > ctx.clock.now()));
        Self {
            endpoint_id: Some(row.id),
            url: row.url,
            method,
            headers: row.headers.0,
            timeout: Duration::from_millis(u64::try_from(row.timeout_ms).unwrap_or(0)),
            max_rate: row.max_rate,
            callback_ttl: None,
            secrets: [Some(row.secret), previous].into_iter().flatten().map(Secret::from_bytes).collect(),
        }
    }

    /// What the breaker is of: the endpoint, or the host as `owner` reaches it.
    fn breaker(&self, ctx: &Context, owner: UserId) -> Result<String, SendError> {
        match self.endpoint_id {
            Some(id) => Ok(id.to_string()),
            None => host_breaker(ctx.outbound.guard(), owner, &self.url).map_err(SendError::Refused),
        }
    }
}

/// Each user's own: who made one fail that others share would stop what they send there.
fn host_breaker(guard: &Guard, owner: UserId, url: &str) -> Result<String, Refused> {
    Ok(format!("{owner}:{}", guard.parse(url)?.origin()))
}

/// What a delivery came to.
#[derive(Debug)]
pub enum Delivered {
    Over(Outcome),
    /// The receiver will call back: [`Parking::finish`] what began, which nothing may cut short.
    Parking(Parking),
}

/// A job whose receiver will call back.
#[derive(Debug)]
pub struct Parking(Ticket);

impl Parking {
    pub async fn finish(self, ctx: &Context, job: &LeasedJob) -> Outcome {
        self.0.park(ctx, job).await.unwrap_or_else(|error| Outcome::retry(error.code.as_str(), error.to_string()))
    }
}

/// Delivers `job`, unless its receiver is better left alone for now.
pub async fn deliver(ctx: &Context, job: &LeasedJob) -> Delivered {
    let attempted = attempt(ctx, job).await;
    attempted.unwrap_or_else(|error| Delivered::Over(Outcome::retry(error.code.as_str(), error.to_string())))
}

async fn attempt(ctx: &Context, job: &LeasedJob) -> Result<Delivered> {
    let destination = match destination(ctx, job).await? {
        Ok(destination) => destination,
        Err(outcome) => return Ok(Delivered::Over(outcome)),
    };
    let name = match destination.breaker(ctx, job.owner_id) {
        Ok(name) => name,
        Err(error) => return Ok(Delivered::Over(failed(&error))),
    };
    if let Some(wait) = wait(ctx, &destination, &name).await? {
        return Ok(Delivered::Over(Outcome::Postpone(wait)));
    }
    let ticket = Ticket::issue(ctx, job, &destination).await?;
    let traced = Span::begin(Kind::Client, "deliver", Whose::Ours, traces::current());
    let message = Message {
        id: job.id().to_string(),
        body: job.payload.get().as_bytes().to_vec(),
        callback: ticket.as_ref().map(|t| t.url(ctx)),
        traceparent: traced.as_ref().map(|span| span.context().to_string()).or_else(|| job.traceparent.clone()),
    };
    let sent = send(ctx, &destination, message).await?;
    if let Some(span) = traced {
        end_trace(span, &sent);
    }
    let is_well = sent.as_ref().is_ok_and(|answer| answer.status < 500);
    // That it was not even looked up says nothing of the receiver.
    let is_news = !matches!(sent, Err(SendError::Refused(Refused::Busy)));
    if is_news && let Err(error) = breaker::tell(ctx, &name, is_well).await {
        tracing::debug!(%error, "a breaker was not told");
    }
    match (ticket, &sent) {
        (Some(ticket), Ok(answer)) if answer.status == 202 => return Ok(Delivered::Parking(Parking(ticket))),
        (Some(ticket), _) => ticket.withdraw(ctx).await,
        (None, _) => {}
    }
    Ok(Delivered::Over(match sent {
        Ok(answer) if answer.status == 410 => gone(ctx, &destination, job).await,
        Ok(answer) => answered(&answer, ctx.clock.now()),
        Err(error) => failed(&error),
    }))
}

/// Of the receiver, its status alone: an address may hold a secret.
fn end_trace(mut span: Span, sent: &std::result::Result<Answer, SendError>) {
    match sent {
        Ok(answer) => {
            span.set("http.response.status_code", i64::from(answer.status));
            if answer.status >= 400 {
                span.fail(answer.status.to_string());
            }
        }
        Err(error) => span.fail(error.code()),
    }
}

/// For how long nothing is to be delivered: it would be too fast for the endpoint, or its breaker is open.
async fn wait(ctx: &Context, destination: &Destination, name: &str) -> Result<Option<Duration>> {
    if let Some(max_rate) = destination.max_rate
        && let Some(wait) = pace::take(ctx, name, max_rate).await?
    {
        return Ok(Some(wait));
    }
    Ok(match breaker::ask(ctx, name, destination.timeout + Duration::from_secs(5)).await? {
        Permit::Yes | Permit::Probe => None,
        // Not all at the same moment.
        Permit::Wait(wait) => Some(wait.mul_f64(1.0 + rand::random::<f64>() / 4.0).max(Duration::from_millis(50))),
    })
}

/// Where the job goes, or what becomes of it instead.
async fn destination(ctx: &Context, job: &LeasedJob) -> Result<Result<Destination, Outcome>> {
    let Some(target) = store::target_of(&ctx.pg, job.id()).await? else {
        return Ok(Err(dead("no_target", format!("a job of kind `{KIND}` needs a target"))));
    };
    let target: SubmitTarget = serde_json::from_str(target.get()).map_err(Error::internal)?;
    let method = target.method.unwrap_or(TargetMethod::Post);
    let mut destination = match (target.endpoint_id, &target.url) {
        (Some(id), _) => match store::find(&ctx.pg, id, None).await? {
            None => return Ok(Err(dead("endpoint_deleted", "its endpoint has been deleted".to_owned()))),
            Some(row) => match row.state {
                EndpointState::Active => match target.refuse_to_follow(&row) {
                    Ok(()) => Destination::of_endpoint(ctx, row, method),
                    Err(moved) => return Ok(Err(dead(moved.code.as_str(), moved.detail.into_owned()))),
                },
                EndpointState::Paused => return Ok(Err(Outcome::Postpone(PAUSED_FOR))),
                EndpointState::Disabled => return Ok(Err(dead("endpoint_disabled", "its endpoint said that it is gone".to_owned()))),
            },
        },
        (None, Some(url)) => {
            let timeout = Duration::from_millis(u64::from(TIMEOUT_MS.unsigned_abs()));
            let (max_rate, callback_ttl) = (None, None);
            let url = url.clone();
            Destination { endpoint_id: None, url, method, headers: Headers::new(), timeout, max_rate, callback_ttl, secrets: Vec::new() }
        }
        (None, None) => return Ok(Err(dead("no_target", "its target names nothing".to_owned()))),
    };
    for (name, value) in target.headers.unwrap_or_default() {
        destination.headers.retain(|known, _| !known.eq_ignore_ascii_case(&name));
        destination.headers.insert(name, value);
    }
    if let Some(timeout_ms) = milliseconds(target.timeout_ms) {
        destination.timeout = Duration::from_millis(u64::from(timeout_ms.unsigned_abs()));
    }
    destination.callback_ttl = target.callback_ttl_s.map(|seconds| Duration::from_secs(seconds.unsigned_abs()));
    Ok(Ok(destination))
}

/// What a receiver gets.
#[derive(Debug)]
pub(super) struct Message {
    /// By which it knows a repeated one.
    pub(super) id: String,
    pub(super) body: Vec<u8>,
    /// Where it may say later what became of the job.
    pub(super) callback: Option<String>,
    /// W3C trace context: what it does is part of what the request caused.
    pub(super) traceparent: Option<String>,
}

/// Sends a message, signed by every secret that is good.
pub(super) async fn send(ctx: &Context, to: &Destination, message: Message) -> Result<Result<Answer, SendError>> {
    let Message { id, body, callback, traceparent } = message;
    let target = match ctx.outbound.guard().parse(&to.url) {
        Ok(target) => target,
        Err(refused) => return Ok(Err(SendError::Refused(refused))),
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &to.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    let timestamp_s = ctx.clock.now().unix_timestamp();
    let mut ours = vec![
        ("content-type", "application/json".to_owned()),
        ("user-agent", USER_AGENT.to_owned()),
        ("webhook-timestamp", timestamp_s.to_string()),
    ];
    ours.extend(callback.map(|url| ("webhook-callback", url)));
    ours.extend(traceparent.filter(|text| traces::is_traceparent(text)).map(|text| ("traceparent", text)));
    if !to.secrets.is_empty() {
        ours.push(("webhook-signature", sign(&to.secrets, &id, timestamp_s, &body)?));
    }
    ours.push(("webhook-id", id));
    for (name, value) in ours {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(&value).map_err(Error::internal)?);
    }
    let method = match to.method {
        TargetMethod::Get => Method::GET,
        TargetMethod::Post => Method::POST,
        TargetMethod::Put => Method::PUT,
        TargetMethod::Patch => Method::PATCH,
        TargetMethod::Delete => Method::DELETE,
    };
    Ok(ctx.outbound.send(Request { target, method, headers, body: body.into(), timeout: to.timeout }).await)
}

/// 2xx alone is a success; redirects are not followed.
fn answered(answer: &Answer, now: OffsetDateTime) -> Outcome {
    let status = answer.status;
    let body = &answer.excerpt[..answer.excerpt.floor_char_boundary(EXCERPT_MAX)];
    if (200..300).contains(&status) {
        let duration_ms = u64::try_from(answer.duration.as_millis()).unwrap_or(u64::MAX);
        let result = to_raw_value(&serde_json::json!({"status": status, "duration_ms": duration_ms, "body_excerpt": body}));
        return result.map_or_else(|error| Outcome::retry("result", error.to_string()), Outcome::Done);
    }
    let after = matches!(status, 429 | 503).then(|| retry_after(&answer.headers, now)).flatten();
    let error = JobError { code: format!("http_{status}"), message: format!("the receiver answered {status}: {body}") };
    Outcome::Retry { error, after }
}

async fn gone(ctx: &Context, destination: &Destination, job: &LeasedJob) -> Outcome {
    if let Some(id) = destination.endpoint_id {
        let origin = Origin { request_id: job.request_id.clone(), ..Origin::default() };
        if let Err(error) = manage::disable(ctx, id, &destination.url, &origin).await {
            tracing::warn!(endpoint_id = %id, %error, "an endpoint that is gone could not be disabled");
        }
    }
    dead("http_410", "the receiver said that it is gone".to_owned())
}

fn failed(error: &SendError) -> Outcome {
    match error {
        SendError::Refused(Refused::Busy) => Outcome::Postpone(BUSY_FOR.mul_f64(1.0 + rand::random::<f64>())),
        SendError::Refused(_) | SendError::Timeout(_) | SendError::Connect(_) | SendError::Broken(_) => {
            Outcome::retry(error.code(), error.to_string())
        }
    }
}

fn dead(code: &str, message: String) -> Outcome {
    Outcome::Discard(JobError { code: code.to_owned(), message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_to_one_host_share_a_breaker_if_they_are_one_users() {
        let (guard, ada, bob) = (Guard::new(&[]), UserId::new(), UserId::new());
        let name = |owner, url| host_breaker(&guard, owner, url).unwrap();
        assert_eq!(name(ada, "https://example.org/a"), name(ada, "https://example.org:443/b"));
        assert_ne!(name(ada, "https://example.org/"), name(bob, "https://example.org/"));
        assert_ne!(name(ada, "https://example.org/"), name(ada, "https://example.org:8443/"));
    }
}
