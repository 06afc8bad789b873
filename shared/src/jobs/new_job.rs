//! A submit: as it arrives ([`SubmitJob`]), and checked and complete ([`NewJob`]).

use super::{JobKind, QueueName, RetryPolicy, kinds::Kind, names, queues::Durability, raw_json};
use crate::{
    Error, Result,
    clock::Clock,
    endpoints::input::SubmitTarget,
    ids::{BatchId, JobId, UserId},
    json_fields, text,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::{Duration, OffsetDateTime};
use utoipa::{
    ToSchema,
    openapi::{ArrayBuilder, ObjectBuilder, Schema, Type, schema::SchemaType},
};
use validator::{Validate, ValidationError};

const WEEK_MS: i64 = 7 * 24 * 3_600 * 1_000;
const TEN_YEARS_MS: i64 = 3_653 * 24 * 3_600 * 1_000;
/// How long a key is held that says nothing of it: a day.
const UNIQUE_TTL_S: i32 = 86_400;
const TAGS_MAX: usize = 20;
/// The largest that `JOB_DEPENDENCIES_MAX` may be.
const DEPENDENCIES_TOP: u64 = 100;
pub(super) const TAG_LENGTH_MAX: usize = 64;

/// A job to be done. Only `kind` is required.
#[derive(Debug, Clone, Serialize, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"kind": "debug.echo", "payload": {"hello": "world"}, "priority": 4, "tags": ["greeting"]}))]
pub struct SubmitJob {
    #[validate(custom(function = "name"))]
    #[schema(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9][A-Za-z0-9_.-]*$", example = "debug.echo")]
    pub kind: String,
    /// Where it waits; `default` when absent. A queue comes to be on first use.
    #[validate(custom(function = "name"))]
    #[schema(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9][A-Za-z0-9_.-]*$", example = "default")]
    pub queue: Option<String>,
    /// Any JSON, handed to the handler as it is; `{}` when absent or null.
    #[schema(value_type = Option<serde_json::Value>)]
    pub payload: Option<Box<RawValue>>,
    /// 0 to 9, 9 is most urgent; 4 when absent. Workers lease ahead of what they run, and every sixteenth lease takes the job that
    /// waits longest, so that urgent work cannot starve the rest: the order is that of leasing, roughly and not strictly.
    #[serde(default, deserialize_with = "json_fields::whole")]
    #[validate(range(min = 0, max = 9))]
    #[schema(minimum = 0, maximum = 9)]
    pub priority: Option<i64>,
    /// Not before this time. Excludes `delay_ms`.
    #[serde(default, with = "crate::instant")]
    pub run_at: Option<OffsetDateTime>,
    /// Not before so many milliseconds from now. Excludes `run_at`.
    #[serde(default, deserialize_with = "json_fields::whole")]
    #[validate(range(min = 0, max = TEN_YEARS_MS))]
    #[schema(minimum = 0, maximum = 315_619_200_000_i64)]
    pub delay_ms: Option<i64>,
    /// A job that has not started by then never will.
    #[serde(default, with = "crate::instant")]
    pub expires_at: Option<OffsetDateTime>,
    /// Longest one attempt may run; at most a week.
    #[serde(default, deserialize_with = "json_fields::whole")]
    #[validate(range(min = 1, max = WEEK_MS))]
    #[schema(minimum = 1, maximum = 604_800_000)]
    pub timeout_ms: Option<i64>,
    #[serde(default, deserialize_with = "json_fields::object")]
    #[validate(nested)]
    pub retry: Option<SubmitRetry>,
    #[serde(default, deserialize_with = "json_fields::object")]
    #[validate(nested)]
    pub unique: Option<SubmitUnique>,
    /// Up to 20 labels of up to 64 characters, to find the job by.
    #[validate(custom(function = "tag_list"))]
    #[schema(schema_with = tags_schema)]
    pub tags: Option<Vec<String>>,
    /// Of the jobs of one key in a queue only `per_key_concurrency` run at once (1 unless the queue says otherwise); the others
    /// wait, those created first go first.
    #[validate(custom(function = "one_line_key"))]
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\u0000-\u001F\u007F-\u009F]*$")]
    pub concurrency_key: Option<String>,
    /// Where a job of kind `http.request` is delivered.
    #[serde(default, deserialize_with = "json_fields::object")]
    #[validate(nested)]
    pub target: Option<SubmitTarget>,
    /// The batch that it is part of, which is open and the caller's own.
    pub batch_id: Option<BatchId>,
    /// Jobs of the caller, of operators anybody's, that must have succeeded before it runs: it waits for them, and is cancelled when one
    /// ends in another way. Up to `JOB_DEPENDENCIES_MAX` (20 unless set otherwise).
    #[validate(length(max = DEPENDENCIES_TOP))]
    #[schema(max_items = 100)]
    pub depends_on: Option<Vec<JobId>>,
}

/// Retry policy of one job; what is absent comes from its kind, then from its queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitRetry {
    #[serde(default, deserialize_with = "json_fields::whole")]
    #[validate(range(min = 1, max = 100))]
    #[schema(minimum = 1, maximum = 100)]
    pub max_attempts: Option<i64>,
    #[serde(default, deserialize_with = "json_fields::whole")]
    #[validate(range(min = 1, max = WEEK_MS))]
    #[schema(minimum = 1, maximum = 604_800_000)]
    pub base_ms: Option<i64>,
    #[serde(default, deserialize_with = "json_fields::whole")]
    #[validate(range(min = 1, max = WEEK_MS))]
    #[schema(minimum = 1, maximum = 604_800_000)]
    pub max_ms: Option<i64>,
}

/// Keeps a second job of the same owner, kind and key out for a while, whatever becomes of the first in that time.
///
/// The time counts from the submit. Deleting the job frees its key; requeueing it does not ask for the key again. Jobs of one
/// key that arrive in one bulk request meet each other: the first is taken, the others are its duplicates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitUnique {
    #[validate(length(min = 1, max = 200))]
    #[schema(min_length = 1, max_length = 200)]
    pub key: String,
    /// Seconds from the submit; a day when absent.
    #[serde(default, deserialize_with = "json_fields::whole")]
    #[validate(range(min = 1, max = 31_536_000))]
    #[schema(minimum = 1, maximum = 31_536_000)]
    pub ttl_s: Option<i64>,
    /// `return_existing`, which is meant when absent: the answer is the earlier job. `reject`: 409. `replace`: the earlier job is
    /// cancelled if it waits, and stays so if the request fails afterwards; if a worker has it already, it is the answer.
    pub on_conflict: Option<OnConflict>,
}

/// What a submit gets that meets an earlier job of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// The earlier job: 200, with `duplicate`.
    #[default]
    ReturnExisting,
    /// 409 `duplicate_job`, which names the earlier job.
    Reject,
    /// Its own job. The earlier one is cancelled if it waits, and stays so if the request fails afterwards; if a worker has it
    /// already, it is the answer instead.
    Replace,
}

/// What the submit's key asks for, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    pub key: String,
    /// Seconds from the submit, by the database's clock.
    pub ttl_s: i32,
    pub on_conflict: OnConflict,
    /// The live job that this one took the key of, and its queue: it is cancelled once that is committed.
    pub replaces: Option<(QueueName, JobId)>,
}

/// A job that may be written: every rule is checked and every default filled in.
#[derive(Debug, Clone)]
pub struct NewJob {
    pub id: JobId,
    pub owner_id: UserId,
    pub kind: JobKind,
    pub queue: QueueName,
    /// That of the queue when the job was submitted: it stays with the job.
    pub durability: Durability,
    pub priority: i16,
    pub payload: Box<RawValue>,
    pub run_at: OffsetDateTime,
    pub expires_at: Option<OffsetDateTime>,
    pub timeout_ms: Option<i32>,
    pub retry: RetryPolicy,
    pub unique: Option<Unique>,
    pub tags: Vec<String>,
    /// Where it is delivered, checked.
    pub target: Option<Box<RawValue>>,
    pub concurrency_key: Option<String>,
    pub batch_id: Option<BatchId>,
    /// The jobs that it waits for; one that had succeeded already is not among them.
    pub depends_on: Vec<JobId>,
    pub request_id: Option<String>,
    pub traceparent: Option<String>,
    pub created_at: OffsetDateTime,
}

/// Where a submit came from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    pub request_id: Option<String>,
    /// W3C trace context, carried to the attempt.
    pub traceparent: Option<String>,
}

/// What the kind and the queue say where the submit is silent.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    pub kind: Option<&'static Kind>,
    pub queue_retry: RetryPolicy,
    pub durability: Durability,
}

impl SubmitJob {
    /// The rules of single fields, then those between fields; the error names all that are broken.
    pub fn check(&self, now: OffsetDateTime, max_payload_bytes: usize) -> Result<()> {
        self.validate()?;
        let mut error = Error::new(crate::Code::ValidationFailed, crate::error::BROKEN_RULE);
        if self.run_at.is_some() && self.delay_ms.is_some() {
            error = error.with_field("/delay_ms", "exclusive", "excludes `run_at`");
        }
        if self.run_at.is_some_and(|at| at > now + Duration::milliseconds(TEN_YEARS_MS)) {
            error = error.with_field("/run_at", "range", "must be within ten years");
        }
        if self.expires_at.is_some_and(|at| at <= self.run_at(now)) {
            error = error.with_field("/expires_at", "range", "must be later than now and than the time it is to run at");
        }
        if let Some(SubmitRetry { base_ms: Some(base), max_ms: Some(max), .. }) = self.retry
            && base > max
        {
            error = error.with_field("/retry/base_ms", "range", "must not be more than `max_ms`");
        }
        let replaces = self.unique.as_ref().is_some_and(|unique| unique.on_conflict == Some(OnConflict::Replace));
        if replaces && (self.batch_id.is_some() || self.has_dependencies()) {
            error = error.with_field("/unique/on_conflict", "not_supported", "cannot be `replace` with `batch_id` or `depends_on`");
        }
        if !error.fields.is_empty() {
            return Err(error);
        }
        self.payload.as_deref().map_or(Ok(()), |payload| raw_json::check(payload.get(), "payload", max_payload_bytes))
    }

    /// The job that this submit makes; [`SubmitJob::check`] has passed.
    pub fn into_job(self, owner_id: UserId, clock: &Clock, defaults: Defaults, origin: Origin) -> Result<NewJob> {
        self.refuse_beside_redis(defaults.durability)?;
        let now = clock.now();
        let job = NewJob {
            id: JobId::new(),
            owner_id,
            kind: JobKind::new(&self.kind)?,
            queue: self.queue_name()?,
            durability: defaults.durability,
            priority: self.priority.map_or(4, |priority| i16::try_from(priority).expect("checked to be 0 to 9")),
            run_at: self.run_at(now),
            expires_at: self.expires_at,
            timeout_ms: self.timeout_ms.map(checked_i32).or_else(|| defaults.kind.and_then(Kind::timeout_ms)),
            retry: self.retry_policy(defaults),
            unique: self.unique.map(|unique| Unique {
                key: unique.key,
                ttl_s: unique.ttl_s.map_or(UNIQUE_TTL_S, checked_i32),
                on_conflict: unique.on_conflict.unwrap_or_default(),
                replaces: None,
            }),
            payload: self.payload.unwrap_or_else(empty_object),
            tags: self.tags.unwrap_or_default(),
            target: None,
            concurrency_key: self.concurrency_key,
            batch_id: self.batch_id,
            depends_on: Vec::new(),
            request_id: origin.request_id,
            traceparent: origin.traceparent,
            created_at: now,
        };
        Ok(job.kept())
    }

    pub fn queue_name(&self) -> Result<QueueName> {
        self.queue.as_deref().map_or_else(|| Ok(QueueName::default()), QueueName::new)
    }

    /// When it may first run: never before now.
    fn run_at(&self, now: OffsetDateTime) -> OffsetDateTime {
        let delayed = now + Duration::milliseconds(self.delay_ms.unwrap_or(0));
        self.run_at.map_or(delayed, |at| at.max(now))
    }

    fn retry_policy(&self, defaults: Defaults) -> RetryPolicy {
        let base = defaults.kind.and_then(|kind| kind.retry).unwrap_or(defaults.queue_retry);
        let Some(own) = &self.retry else { return base };
        let own_base = own.base_ms.map_or(base.base_ms, checked_i32);
        let own_max = own.max_ms.map_or(base.max_ms, checked_i32);
        RetryPolicy {
            max_attempts: own.max_attempts.map_or(base.max_attempts, checked_i32),
            // One of the two alone may cross the other's default; the one that was asked for wins.
            base_ms: if own.base_ms.is_some() { own_base } else { own_base.min(own_max) },
            max_ms: if own.max_ms.is_some() { own_max } else { own_max.max(own_base) },
        }
    }

    /// What needs a row from the submit on.
    fn refuse_beside_redis(&self, durability: Durability) -> Result<()> {
        let fields = [
            ("/unique", self.unique.is_some()),
            ("/target", self.target.is_some()),
            ("/concurrency_key", self.concurrency_key.is_some()),
            ("/batch_id", self.batch_id.is_some()),
            ("/depends_on", self.has_dependencies()),
        ];
        let used = fields.into_iter().find(|(_, is_used)| *is_used && durability == Durability::Redis);
        let detail = "is not supported in a queue with `durability: \"redis\"`";
        used.map_or(Ok(()), |(pointer, _)| Err(Error::invalid(pointer, "not_supported", detail)))
    }

    pub(super) fn has_dependencies(&self) -> bool {
        self.depends_on.as_ref().is_some_and(|depends_on| !depends_on.is_empty())
    }
}

impl NewJob {
    /// Whether it is tied to other jobs.
    pub(super) fn is_linked(&self) -> bool {
        self.batch_id.is_some() || self.is_waiting()
    }

    /// Whether it waits for other jobs.
    pub(super) fn is_waiting(&self) -> bool {
        !self.depends_on.is_empty()
    }

    /// As its queue keeps it.
    pub(super) fn kept(self) -> Self {
        match self.durability {
            Durability::Postgres => self,
            Durability::Redis => self.in_milliseconds(),
        }
    }

    /// Its times cut to what Redis tells, so that the row says later what the answer to the submit did.
    fn in_milliseconds(self) -> Self {
        let cut = |at: OffsetDateTime| at.truncate_to_millisecond();
        Self { run_at: cut(self.run_at), expires_at: self.expires_at.map(cut), created_at: cut(self.created_at), ..self }
    }
}

fn name(text: &str) -> Result<(), ValidationError> {
    if names::is_name(text) { Ok(()) } else { Err(ValidationError::new("name").with_message(names::NAME_RULE.into())) }
}

fn one_line_key(key: &str) -> Result<(), ValidationError> {
    let is_well_formed = (1..=200).contains(&key.chars().count()) && !key.contains(char::is_control);
    let message = "must have 1 to 200 characters, none a control character";
    is_well_formed.then_some(()).ok_or_else(|| ValidationError::new("concurrency_key").with_message(message.into()))
}

fn tag_list(tags: &[String]) -> Result<(), ValidationError> {
    let well_formed = |tag: &String| (1..=TAG_LENGTH_MAX).contains(&tag.chars().count()) && !tag.contains(char::is_control);
    if tags.len() <= TAGS_MAX && tags.iter().all(well_formed) {
        return Ok(());
    }
    Err(ValidationError::new("tags").with_message("must be at most 20 tags of 1 to 64 characters each, none a control character".into()))
}

fn tags_schema() -> Schema {
    let tag = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(TAG_LENGTH_MAX))
        .pattern(Some(text::ONE_LINE_PATTERN));
    ArrayBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .items(tag)
        .max_items(Some(TAGS_MAX))
        .description(Some("Up to 20 labels of up to 64 characters, to find the job by."))
        .build()
        .into()
}

fn checked_i32(value: i64) -> i32 {
    i32::try_from(value).expect("checked to be at most a week of milliseconds, or a year of seconds")
}

fn empty_object() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).expect("an empty object is JSON")
}
