//! Callbacks: a receiver that needs longer than an answer may take says 202, and later, once, what became of the job.
//!
//! The right to say so is a token that goes with the delivery. Of it only the hash is kept. Who has it needs no account.

use super::deliver::Destination;
use crate::{
    Context, Error, Result,
    ids::JobId,
    jobs::{
        Job, JobError,
        engine::{Outcome, held::LeasedJob, parking},
        raw_json, read,
    },
    json_fields,
};
use rand::{RngExt, distr::Alphanumeric};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::time::Duration;
use utoipa::ToSchema;
use validator::Validate;

/// Of 62 characters each: more than 255 bits, so that a plain SHA-256 is all that need be kept.
const TOKEN_CHARS: usize = 43;
/// Beyond the time that a delivery may take, a token of it is good for so long before its answer has come.
const MARGIN: Duration = Duration::from_mins(1);
/// Waits that are ended in one go.
const EXPIRED_AT_ONCE: usize = 200;

/// What a receiver says of a job that it took with 202.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"outcome": "ok", "result": {"width": 640}}))]
pub struct Callback {
    pub outcome: CallbackOutcome,
    /// Of `ok`.
    #[schema(value_type = Option<serde_json::Value>)]
    pub result: Option<Box<RawValue>>,
    /// Of `fail`: the job is tried again by its retry policy. Its `code` may not be empty.
    #[serde(default, deserialize_with = "json_fields::object")]
    pub error: Option<JobError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CallbackOutcome {
    Ok,
    Fail,
}

impl Callback {
    fn into_outcome(self, result_bytes_max: usize) -> Result<Outcome> {
        match (self.outcome, self.result, self.error) {
            (CallbackOutcome::Ok, result, None) => {
                let result = result.unwrap_or_else(|| RawValue::from_string("null".to_owned()).expect("null is JSON"));
                raw_json::check(result.get(), "result", result_bytes_max)?;
                Ok(Outcome::Done(result))
            }
            (CallbackOutcome::Fail, None, Some(error)) => {
                error.check("/error")?;
                Ok(Outcome::Retry { error, after: None })
            }
            (CallbackOutcome::Fail, None, None) => Err(Error::invalid("/error", "required", "must say what failed")),
            (CallbackOutcome::Ok, _, Some(_)) => Err(Error::invalid("/error", "misplaced", "does not belong to `ok`")),
            (CallbackOutcome::Fail, Some(_), _) => Err(Error::invalid("/result", "misplaced", "does not belong to `fail`")),
        }
    }
}

/// Settles the job that `token` is of, once, and returns it as it is now. A token that is no token, unknown, used, expired, or of a job
/// that is over: all are answered alike.
pub async fn settle(ctx: &Context, token: &str, callback: Callback) -> Result<Job> {
    let outcome = callback.into_outcome(ctx.settings().max_payload_bytes.0)?;
    let unknown = || Error::not_found("callback");
    let is_token = token.len() == TOKEN_CHARS && token.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !is_token {
        return Err(unknown());
    }
    let id: JobId = parking::settle(ctx, &hash(token), outcome).await?.ok_or_else(unknown)?;
    read::current(ctx, id).await
}

/// Fails the waits that nobody ended in time; returns whether there may be more.
pub async fn expire(ctx: &Context) -> Result<bool> {
    Ok(parking::expire(ctx, EXPIRED_AT_ONCE).await? == EXPIRED_AT_ONCE)
}

/// The token of one delivery.
#[derive(Debug)]
pub(super) struct Ticket {
    token: String,
    wait: Duration,
}

impl Ticket {
    /// For a delivery whose receiver may answer later; to be sent only once it is kept.
    pub(super) async fn issue(ctx: &Context, job: &LeasedJob, destination: &Destination) -> Result<Option<Self>> {
        let Some(wait) = destination.callback_ttl else { return Ok(None) };
        let token: String = rand::rng().sample_iter(Alphanumeric).take(TOKEN_CHARS).map(char::from).collect();
        let expires_at = ctx.clock.now() + wait + destination.timeout + MARGIN;
        parking::issue(ctx, job, &hash(&token), expires_at).await?;
        Ok(Some(Self { token, wait }))
    }

    /// Where the receiver says what became of the job: a URL, or its path where `PUBLIC_URL` is not set.
    pub(super) fn url(&self, ctx: &Context) -> String {
        let settings = ctx.settings();
        let base = settings.public_url.as_deref().unwrap_or_default();
        format!("{}/api/v1/callbacks/{}", base.trim_end_matches('/'), self.token)
    }

    /// The delivery is over without it. What is not taken back runs out.
    pub(super) async fn withdraw(self, ctx: &Context) {
        if let Err(error) = parking::withdraw(ctx, &hash(&self.token)).await {
            tracing::debug!(%error, "a token is not taken back, and runs out");
        }
    }

    pub(super) async fn park(self, ctx: &Context, job: &LeasedJob) -> Result<Outcome> {
        parking::park(ctx, job, &hash(&self.token), ctx.clock.now() + self.wait).await
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}
