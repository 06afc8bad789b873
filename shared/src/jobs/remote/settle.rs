//! Settling: what a remote worker says became of its jobs, each answered on its own.

use super::{
    LeaseToken, report,
    session::{self, Session},
};
use crate::{
    Caller, Code, Context, Error, Result,
    ids::{JobId, WorkerId},
    jobs::{
        JobError, JobState, QueueName,
        engine::{
            Outcome, Token,
            remote::settle::{self as engine, Answer, End},
        },
        raw_json,
    },
    json_fields,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};
use utoipa::ToSchema;
use validator::Validate;

/// Leases of one job that one request settles: each is a turn of its own.
const TURNS_MAX: usize = 4;
const WEEK_MS: i64 = 7 * 24 * 3_600 * 1_000;
const YEAR_MS: i64 = 366 * 24 * 3_600 * 1_000;

/// What became of one job.
///
/// `ok` takes `result`; `fail` takes `error` and `retry_after_ms`, in place of the retry policy's pause; `discard` (it will never
/// succeed: dead at once) takes `reason`; `release` (not run, or not to an end; uses no attempt, twenty times at most) takes nothing;
/// `snooze` (too early; uses no attempt) takes `delay_ms`. When the job's cancel was asked for, all but `ok` cancel it.
#[derive(Debug, Clone, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"lease_token": "01a1fb40-f998-71ea-83d1-3bd51ccbb3da.1.7d9d1f0f6ad64f4e9f7d3c5c2b1a0908.thumbnails", "outcome": "ok", "result": {"width": 640}}))]
pub struct SettleLease {
    #[validate(length(max = 300))]
    #[schema(max_length = 300)]
    pub lease_token: String,
    pub outcome: SettleOutcome,
    #[schema(value_type = Option<serde_json::Value>)]
    pub result: Option<Box<RawValue>>,
    /// Of `fail`; its `code` may not be empty.
    #[serde(default, deserialize_with = "json_fields::object")]
    pub error: Option<JobError>,
    #[serde(default, deserialize_with = "json_fields::whole")]
    #[validate(range(min = 0, max = WEEK_MS))]
    #[schema(minimum = 0, maximum = 604_800_000)]
    pub retry_after_ms: Option<i64>,
    #[validate(length(max = 4_096))]
    #[schema(max_length = 4096)]
    pub reason: Option<String>,
    #[serde(default, deserialize_with = "json_fields::whole")]
    #[validate(range(min = 0, max = YEAR_MS))]
    #[schema(minimum = 0, maximum = 31_622_400_000_i64)]
    pub delay_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SettleOutcome {
    Ok,
    Fail,
    Discard,
    Release,
    Snooze,
}

/// A settle that was parsed, or what is wrong with it.
pub type Parsed = Result<SettleLease>;

/// What a worker says became of its jobs. Each is read on its own, so that one that is malformed leaves the others alone.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"session_id": "01a1fb3f-0000-7000-8000-000000000002", "settle": [
    {"lease_token": "01a1fb40-f998-71ea-83d1-3bd51ccbb3da.1.7d9d1f0f6ad64f4e9f7d3c5c2b1a0908.thumbnails", "outcome": "ok", "result": {"width": 640}},
]}))]
pub struct SettleLeases {
    pub session_id: WorkerId,
    #[validate(length(min = 1, max = 256))]
    #[schema(value_type = Vec<SettleLease>, min_items = 1, max_items = 256)]
    pub settle: Vec<Box<RawValue>>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Settled {
    pub items: Vec<SettleItem>,
}

/// The answer to one settle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SettleItem {
    #[schema(example = 0)]
    pub index: usize,
    /// As it was sent; empty where it could not be read.
    pub lease_token: String,
    /// 200: it is settled, now or by an earlier request with this token. 409: the lease is lost. 422: `code` says what is wrong with the
    /// settle; the lease goes on.
    #[schema(example = 200, minimum = 200, maximum = 599)]
    pub status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "lease_lost")]
    pub code: Option<&'static str>,
    /// With a `code`: the same in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub detail: Option<String>,
    /// With 200: how the job stands after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub state: Option<JobState>,
}

/// Settles each on its own. An error means that a server is away: told again, what was settled answers so.
pub async fn settle(ctx: &Context, caller: &Caller, session_id: WorkerId, settles: Vec<Parsed>) -> Result<Vec<SettleItem>> {
    let (session, _) = session::touch(ctx, caller, session_id).await?;
    let mut items = Vec::with_capacity(settles.len());
    // Settles of one job's leases, an old one and a newer, go one after the other.
    let mut by_turn: BTreeMap<(usize, QueueName), Vec<Told>> = BTreeMap::new();
    let mut seen: HashMap<JobId, Vec<i32>> = HashMap::new();
    let result_max = ctx.settings().max_payload_bytes.0;
    for (index, parsed) in settles.into_iter().enumerate() {
        let lease_token = parsed.as_ref().map_or_else(|_| String::new(), |settle| settle.lease_token.clone());
        items.push(SettleItem { index, lease_token, status: 409, code: Some(Code::LeaseLost.as_str()), detail: None, state: None });
        let (lease, end) = match parsed.and_then(|settle| read(&settle, result_max)) {
            Ok(read) => read,
            Err(error) => {
                items[index].refuse(&error);
                continue;
            }
        };
        let attempts = seen.entry(lease.token.job_id).or_default();
        if attempts.contains(&lease.token.attempt) || attempts.len() == TURNS_MAX {
            items[index].refuse(&Error::invalid("/lease_token", "twice", "another settle of this request is about the same job"));
            continue;
        }
        // Another session's is to this one as good as lost.
        if lease.token.nonce == session.nonce() {
            by_turn.entry((attempts.len(), lease.queue)).or_default().push((index, lease.token, end));
        }
        attempts.push(lease.token.attempt);
    }
    let mut tally = Tally::default();
    for ((_, queue), settles) in by_turn {
        settle_queue(ctx, &session, &queue, settles, &mut items, &mut tally).await?;
    }
    if tally.n_done + tally.n_failed > 0 {
        report::count(ctx, session.id, [tally.n_done, tally.n_failed]).await;
    }
    Ok(items)
}

/// A settle's place in the request, and what it says.
type Told = (usize, Token, End);

#[derive(Default)]
struct Tally {
    n_done: u64,
    n_failed: u64,
}

async fn settle_queue(
    ctx: &Context,
    session: &Session,
    queue: &QueueName,
    settles: Vec<Told>,
    items: &mut [SettleItem],
    tally: &mut Tally,
) -> Result<()> {
    let (indexes, ends): (Vec<usize>, Vec<(Token, End)>) = settles.into_iter().map(|(index, token, end)| (index, (token, end))).unzip();
    let answers = engine::settle(ctx, queue, &session.holder(ctx), ends).await?;
    for (index, answer) in indexes.into_iter().zip(answers) {
        let Answer::Settled(state) = answer else { continue };
        match state {
            JobState::Succeeded => tally.n_done += 1,
            JobState::Retrying | JobState::Dead => tally.n_failed += 1,
            JobState::Scheduled | JobState::Queued | JobState::Running | JobState::Waiting | JobState::Cancelled | JobState::Expired => {}
        }
        items[index].status = 200;
        items[index].code = None;
        items[index].state = Some(state);
    }
    Ok(())
}

impl SettleItem {
    fn refuse(&mut self, error: &Error) {
        self.status = 422;
        self.code = Some(error.code.as_str());
        let detail = error.fields.first().map_or_else(|| error.detail.to_string(), |field| format!("{} {}", field.pointer, field.detail));
        self.detail = Some(detail);
    }
}

/// The lease that a settle is about and what it makes of it; an error leaves the lease as it is.
fn read(settle: &SettleLease, result_max: usize) -> Result<(LeaseToken, End)> {
    settle.validate()?;
    let lease = LeaseToken::parse(&settle.lease_token, || "/lease_token".to_owned())?;
    settle.refuse_strangers()?;
    let end = match settle.outcome {
        SettleOutcome::Ok => {
            let null = || RawValue::from_string("null".to_owned()).expect("null is JSON");
            let result = settle.result.clone().unwrap_or_else(null);
            raw_json::check(result.get(), "result", result_max)?;
            End::Outcome(Outcome::Done(result))
        }
        SettleOutcome::Fail => {
            let error = settle.error.clone().ok_or_else(|| Error::invalid("/error", "required", "must say what failed"))?;
            error.check("/error")?;
            End::Outcome(Outcome::Retry { error, after: settle.retry_after_ms.map(milliseconds) })
        }
        SettleOutcome::Discard => {
            let message = settle.reason.clone().ok_or_else(|| Error::invalid("/reason", "required", "must say why"))?;
            End::Outcome(Outcome::Discard(JobError { code: "discarded".to_owned(), message }))
        }
        SettleOutcome::Release => End::Release,
        SettleOutcome::Snooze => {
            let delay = settle.delay_ms.ok_or_else(|| Error::invalid("/delay_ms", "required", "must say for how long"))?;
            End::Outcome(Outcome::Snooze(milliseconds(delay)))
        }
    };
    Ok((lease, end))
}

impl SettleLease {
    /// Refuses fields that belong to another outcome: the worker means something else than it says.
    fn refuse_strangers(&self) -> Result<()> {
        use SettleOutcome::{Discard, Fail, Ok as Done, Snooze};
        let fields = [
            ("/result", self.result.is_some(), Done),
            ("/error", self.error.is_some(), Fail),
            ("/retry_after_ms", self.retry_after_ms.is_some(), Fail),
            ("/reason", self.reason.is_some(), Discard),
            ("/delay_ms", self.delay_ms.is_some(), Snooze),
        ];
        match fields.into_iter().find(|(_, is_there, of)| *is_there && *of != self.outcome) {
            Some((pointer, ..)) => Err(Error::invalid(pointer, "misplaced", "does not belong to this outcome")),
            None => Ok(()),
        }
    }
}

fn milliseconds(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
