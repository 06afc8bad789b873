//! What callers send of schedules, and the rules it must keep.

use super::{Overlap, Schedule, expression::canonical_zone, rule::Rule};
use crate::{
    Code, Error, Result,
    endpoints::input::SubmitTarget,
    jobs::{
        SubmitJob,
        names::{self, NAME_RULE},
        new_job::{SubmitRetry, SubmitUnique},
    },
    json_fields,
};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use time::{Duration, OffsetDateTime};
use utoipa::{IntoParams, ToSchema};
use validator::{Validate, ValidationError};

/// As often as a cron expression can fire.
const EVERY_MIN_MS: i64 = 1_000;
const EVERY_MAX_MS: i64 = 3_653 * 24 * 3_600 * 1_000;
const WEEK_MS: i64 = 7 * 24 * 3_600 * 1_000;
/// One less than a job may have: the schedule adds its own.
const TAGS_MAX: u64 = 19;

/// What a submit may say beside kind, queue and payload, of the jobs of a schedule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduledJob {
    #[serde(default, deserialize_with = "json_fields::whole", skip_serializing_if = "Option::is_none")]
    #[validate(range(min = 0, max = 9))]
    #[schema(minimum = 0, maximum = 9)]
    pub priority: Option<i64>,
    /// How long after its occurrence a job may first run.
    #[serde(default, deserialize_with = "json_fields::whole", skip_serializing_if = "Option::is_none")]
    #[validate(range(min = 0, max = WEEK_MS))]
    #[schema(minimum = 0, maximum = 604_800_000)]
    pub delay_ms: Option<i64>,
    #[serde(default, deserialize_with = "json_fields::whole", skip_serializing_if = "Option::is_none")]
    #[validate(range(min = 1, max = WEEK_MS))]
    #[schema(minimum = 1, maximum = 604_800_000)]
    pub timeout_ms: Option<i64>,
    #[serde(default, deserialize_with = "json_fields::object", skip_serializing_if = "Option::is_none")]
    #[validate(nested)]
    pub retry: Option<SubmitRetry>,
    #[serde(default, deserialize_with = "json_fields::object", skip_serializing_if = "Option::is_none")]
    #[validate(nested)]
    pub unique: Option<SubmitUnique>,
    #[serde(default, deserialize_with = "json_fields::object", skip_serializing_if = "Option::is_none")]
    #[validate(nested)]
    pub target: Option<SubmitTarget>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\u0000-\u001F\u007F-\u009F]*$")]
    pub concurrency_key: Option<String>,
    /// Up to 19 labels; all jobs of a schedule have `schedule:<its id>` as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[validate(length(max = TAGS_MAX))]
    #[schema(max_items = 19)]
    pub tags: Option<Vec<String>>,
}

/// A schedule to be made: `name`, `kind`, and either `cron` or `every_ms`.
#[derive(Debug, Clone, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "nightly report", "kind": "debug.echo", "payload": {"report": "sales"}, "cron": "30 2 * * *",
    "timezone": "Europe/Berlin", "overlap": "skip"}))]
pub struct NewSchedule {
    /// Of its own among the caller's schedules.
    #[validate(custom(function = "title"))]
    #[schema(min_length = 1, max_length = 100, pattern = r"^[^\u0000-\u001F\u007F-\u009F]*$")]
    pub name: String,
    #[validate(custom(function = "job_name"))]
    #[schema(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9][A-Za-z0-9_.-]*$", example = "debug.echo")]
    pub kind: String,
    /// `default` when absent.
    #[validate(custom(function = "job_name"))]
    #[schema(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9][A-Za-z0-9_.-]*$", example = "default")]
    pub queue: Option<String>,
    /// `{}` when absent.
    #[schema(value_type = Option<serde_json::Value>)]
    pub payload: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "json_fields::object")]
    #[validate(nested)]
    pub job: Option<ScheduledJob>,
    /// Minute, hour, day of month, month, day of week (0 and 7 are Sunday), with seconds in front if there are six; or a nickname
    /// such as `@daily`. Excludes `every_ms`.
    #[validate(length(min = 1, max = 200))]
    #[schema(min_length = 1, max_length = 200, example = "30 2 * * *")]
    pub cron: Option<String>,
    /// Milliseconds from one occurrence to the next, a second or more. Excludes `cron`.
    #[serde(default, deserialize_with = "json_fields::whole")]
    #[validate(range(min = EVERY_MIN_MS, max = EVERY_MAX_MS))]
    #[schema(minimum = 1_000, maximum = 315_619_200_000_i64)]
    pub every_ms: Option<i64>,
    /// Whose wall clock `cron` goes by, as the IANA names it; `UTC` when absent.
    #[validate(length(min = 1, max = 64))]
    #[schema(min_length = 1, max_length = 64, example = "Europe/Berlin")]
    pub timezone: Option<String>,
    /// `allow` when absent.
    pub overlap: Option<Overlap>,
    /// Whether occurrences that nobody was there for are made up for, the newest 100 at most. `false` when absent: the last one
    /// fires if it is hardly late, the others never.
    pub catch_up: Option<bool>,
    /// `false` when absent.
    pub paused: Option<bool>,
}

/// What to change of a schedule; what is absent stays. `cron` takes the place of `every_ms`, and the other way round.
#[derive(Debug, Clone, Default, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"cron": "0 3 * * *", "overlap": "cancel_old"}))]
pub struct PatchSchedule {
    #[validate(custom(function = "title"))]
    #[schema(min_length = 1, max_length = 100, pattern = r"^[^\u0000-\u001F\u007F-\u009F]*$")]
    pub name: Option<String>,
    #[validate(custom(function = "job_name"))]
    #[schema(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    pub kind: Option<String>,
    #[validate(custom(function = "job_name"))]
    #[schema(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    pub queue: Option<String>,
    #[schema(value_type = Option<serde_json::Value>)]
    pub payload: Option<Box<RawValue>>,
    /// Replaces it whole. A header of `target` that is shown as `***`, and sent so, keeps its value, unless `target` leads to another
    /// endpoint, scheme, host or port: then it must be sent again, or left out.
    #[serde(default, deserialize_with = "json_fields::object")]
    #[validate(nested)]
    pub job: Option<ScheduledJob>,
    #[validate(length(min = 1, max = 200))]
    #[schema(min_length = 1, max_length = 200)]
    pub cron: Option<String>,
    #[serde(default, deserialize_with = "json_fields::whole")]
    #[validate(range(min = EVERY_MIN_MS, max = EVERY_MAX_MS))]
    #[schema(minimum = 1_000, maximum = 315_619_200_000_i64)]
    pub every_ms: Option<i64>,
    #[validate(length(min = 1, max = 64))]
    #[schema(min_length = 1, max_length = 64)]
    pub timezone: Option<String>,
    pub overlap: Option<Overlap>,
    pub catch_up: Option<bool>,
    pub paused: Option<bool>,
}

/// How many occurrences to tell.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct NextQuery {
    /// 1 to 100; 5 when absent.
    #[param(minimum = 1, maximum = 100, example = 5)]
    pub count: Option<i64>,
}

impl NextQuery {
    pub(super) fn count(&self) -> Result<usize> {
        let count = self.count.unwrap_or(5);
        let count = usize::try_from(count).ok().filter(|count| (1..=100).contains(count));
        count.ok_or_else(|| Error::new(Code::InvalidQuery, "`count` must be 1 to 100."))
    }
}

impl ScheduledJob {
    /// As callers see it. What `Serialize` writes is what is kept.
    pub(super) fn shown(&self) -> Self {
        Self { target: self.target.as_ref().map(SubmitTarget::shown), ..self.clone() }
    }

    pub(super) fn serialize_shown<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.shown().serialize(serializer)
    }

    /// As it is kept, in the place of `before`: with the headers' values that are to stay.
    pub(super) fn unmasked(self, before: &Self) -> Result<Self> {
        let unmask = |target: SubmitTarget| target.unmasked(before.target.as_ref(), "/job/target/headers");
        Ok(Self { target: self.target.map(unmask).transpose()?, ..self })
    }
}

impl NewSchedule {
    /// When it fires; the error names all rules that are broken.
    pub(super) fn check(&self, now: OffsetDateTime) -> Result<Rule> {
        self.validate()?;
        rule(self.cron.as_deref(), self.every_ms, self.timezone(), now)
    }

    fn timezone(&self) -> &str {
        self.timezone.as_deref().unwrap_or("UTC")
    }

    /// The name of the zone as all write it; [`NewSchedule::check`] has passed.
    pub(super) fn canonical_timezone(&self) -> Result<String> {
        canonical_zone(self.timezone())
    }
}

impl PatchSchedule {
    /// Applies itself; the rule is what the schedule is to fire by, where that changes.
    pub(super) fn apply(self, schedule: &mut Schedule, now: OffsetDateTime) -> Result<Option<Rule>> {
        self.validate()?;
        let is_rule_changed = self.cron.is_some() || self.every_ms.is_some() || self.timezone.is_some();
        if is_rule_changed {
            let (cron, every_ms) = match (&self.cron, self.every_ms) {
                (None, None) => (schedule.cron.clone(), schedule.every_ms),
                given => (given.0.clone(), given.1),
            };
            let timezone = self.timezone.as_deref().unwrap_or(&schedule.timezone);
            rule(cron.as_deref(), every_ms, timezone, now)?;
            (schedule.cron, schedule.every_ms, schedule.timezone) = (cron, every_ms, canonical_zone(timezone)?);
        }
        replace(&mut schedule.name, self.name);
        replace(&mut schedule.kind, self.kind);
        replace(&mut schedule.queue, self.queue);
        replace(&mut schedule.payload, self.payload);
        let job = self.job.map(|job| job.unmasked(&schedule.job)).transpose()?;
        replace(&mut schedule.job, job);
        replace(&mut schedule.overlap, self.overlap);
        replace(&mut schedule.catch_up, self.catch_up);
        let is_begun = schedule.paused && self.paused == Some(false);
        replace(&mut schedule.paused, self.paused);
        if is_rule_changed || is_begun { schedule.rule(now).map(Some) } else { Ok(None) }
    }
}

fn replace<T>(value: &mut T, with: Option<T>) {
    if let Some(with) = with {
        *value = with;
    }
}

fn rule(cron: Option<&str>, every_ms: Option<i64>, timezone: &str, now: OffsetDateTime) -> Result<Rule> {
    match (cron, every_ms) {
        (Some(cron), None) => Rule::cron(cron, timezone, now),
        (None, Some(every_ms)) => canonical_zone(timezone).map(|_| Rule::every(Duration::milliseconds(every_ms))),
        (Some(_), Some(_)) => Err(Error::invalid("/every_ms", "exclusive", "excludes `cron`")),
        (None, None) => Err(Error::invalid("/cron", "required", "either `cron` or `every_ms` must say when")),
    }
}

/// The submit that one occurrence makes.
pub(super) fn submit_of(schedule: &Schedule) -> SubmitJob {
    let job = schedule.job.clone();
    let mut tags = job.tags.unwrap_or_default();
    tags.push(schedule.tag());
    SubmitJob {
        kind: schedule.kind.clone(),
        queue: Some(schedule.queue.clone()),
        payload: Some(schedule.payload.clone()),
        priority: job.priority,
        run_at: None,
        delay_ms: job.delay_ms,
        expires_at: None,
        timeout_ms: job.timeout_ms,
        retry: job.retry,
        unique: job.unique,
        tags: Some(tags),
        concurrency_key: job.concurrency_key,
        target: job.target,
        batch_id: None,
        depends_on: None,
    }
}

pub(crate) fn title(text: &str) -> Result<(), ValidationError> {
    let is_one_line = (1..=100).contains(&text.chars().count()) && !text.contains(char::is_control);
    let broken = || ValidationError::new("name").with_message("must be 1 to 100 characters, none a control character".into());
    is_one_line.then_some(()).ok_or_else(broken)
}

fn job_name(text: &str) -> Result<(), ValidationError> {
    names::is_name(text).then_some(()).ok_or_else(|| ValidationError::new("name").with_message(NAME_RULE.into()))
}
