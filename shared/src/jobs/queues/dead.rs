//! Dead letters of a queue: read them, one by one or by error; requeue or delete many at once, in bounded steps.

use crate::{
    Caller, Code, Context, Error, Result, Scope,
    accounts::{
        Origin,
        audit::{self, Action, Deed, Subject},
    },
    ids::JobId,
    jobs::{Job, QueueName, engine::INLINE_PAYLOAD_BYTES, kinds, list, race, store},
    page::{Page, PageRequest, page_request},
};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;
use validator::Validate;

/// Jobs that one statement requeues or deletes: no long lock, no large transaction.
const STEP: i64 = 500;
/// How long one request goes on; what is left then is for the next.
const PATIENCE: Duration = Duration::from_secs(5);
/// Shorter than clients wait for an answer.
const TURN_WITHIN: Duration = Duration::from_secs(3);
/// Groups of one page, and jobs counted of each: what a page costs at most.
const GROUPS_MAX: i64 = 50;
const COUNT_MAX: i64 = 1_000;
const IDS_MAX: u64 = 1_000;

/// Which dead letters to list, and how.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ListDead {
    /// `error`: one item for each error code instead of one for each job.
    #[param(inline)]
    pub group: Option<GroupBy>,
    /// Only jobs that died of this error. Excludes `group`.
    #[param(max_length = 100)]
    pub error_code: Option<String>,
    /// Items per page: 1 or more, cut to 1000 (of groups to 50); 50 when absent. A page of large jobs may be shorter and still
    /// have a next one.
    #[param(minimum = 1, example = 50)]
    pub limit: Option<i64>,
    /// `next_cursor` of the page before.
    #[param(max_length = 200)]
    pub cursor: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum GroupBy {
    Error,
}

/// Dead letters: jobs, the newest first, or with `group=error` groups by their codes.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(untagged)]
pub enum DeadLetters {
    Groups(Page<DeadGroup>),
    Jobs(Page<Job>),
}

/// The dead jobs of one error.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct DeadGroup {
    #[schema(example = "handler_failed")]
    pub code: String,
    /// The newest one's.
    #[schema(example = "the mail server refused the recipient")]
    pub message: String,
    /// 1,000 stands for that and more.
    #[schema(minimum = 1, maximum = 1_000, example = 12)]
    pub count: u64,
    /// The newest of them.
    pub sample_id: JobId,
    /// When that one died.
    #[serde(with = "time::serde::rfc3339")]
    pub last_at: OffsetDateTime,
}

/// Which dead letters to requeue or delete: exactly one of the three.
#[derive(Debug, Clone, Default, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"error_code": "handler_failed"}))]
pub struct SelectDead {
    /// These; those that are not dead, or not of this queue, are passed over.
    #[validate(length(min = 1, max = IDS_MAX))]
    #[schema(min_items = 1, max_items = 1_000)]
    pub ids: Option<Vec<Uuid>>,
    /// All that died of this error.
    #[validate(length(min = 1, max = 100))]
    #[schema(min_length = 1, max_length = 100)]
    pub error_code: Option<String>,
    /// `true`: all of the queue.
    pub all: Option<bool>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Requeued {
    pub requeued: u64,
    /// The request ended for want of time: repeat it.
    pub more: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Removed {
    pub removed: u64,
    /// The request ended for want of time: repeat it.
    pub more: bool,
}

pub async fn list_dead(ctx: &Context, caller: &Caller, name: &QueueName, query: &ListDead) -> Result<DeadLetters> {
    caller.require(Scope::QueuesAdmin)?;
    known(ctx, name).await?;
    match (query.group, &query.error_code) {
        (Some(GroupBy::Error), Some(_)) => Err(Error::new(Code::InvalidQuery, "`error_code` excludes `group`.")),
        (Some(GroupBy::Error), None) => {
            let request = page_request::<String>(query.limit, query.cursor.as_deref())?;
            let request = PageRequest { limit: request.limit.min(GROUPS_MAX), ..request };
            Ok(DeadLetters::Groups(groups(ctx, name, &request).await?))
        }
        (None, error_code) => {
            let request = page_request::<Uuid>(query.limit, query.cursor.as_deref())?;
            let read = async |below: Option<Uuid>, limit| {
                let below = below.unwrap_or(Uuid::max());
                store::dead::dead_page(ctx.by_values(), name.as_str(), error_code.as_deref(), below, limit).try_collect().await
            };
            let page = list::fill_page(ctx, &request, read).await?;
            let now = ctx.clock.now();
            let items = page.items.into_iter().map(|row| row.into_job(None, now)).collect::<Result<Vec<_>>>()?;
            Ok(DeadLetters::Jobs(Page { items, next_cursor: page.next_cursor }))
        }
    }
}

/// A queue's dead letters outlive it.
async fn known(ctx: &Context, name: &QueueName) -> Result<()> {
    let is_known = store::queues::has_row_or_dead(&ctx.pg, name.as_str()).await?;
    if is_known { Ok(()) } else { Err(Error::not_found("queue")) }
}

async fn groups(ctx: &Context, name: &QueueName, request: &PageRequest<String>) -> Result<Page<DeadGroup>> {
    let after = request.before.as_deref().unwrap_or("");
    let rows = store::dead::dead_groups(ctx.by_values(), name.as_str(), after, COUNT_MAX, request.fetch()).await?;
    let page = Page::from_rows(rows, request, |row| row.code.clone());
    Ok(page.map(|row| DeadGroup {
        code: row.code,
        message: row.message.unwrap_or_default(),
        count: row.count.unsigned_abs(),
        sample_id: row.sample_id,
        last_at: row.last_at,
    }))
}

/// What is done to dead jobs.
#[derive(Debug, Clone, Copy)]
enum Deal {
    Requeue,
    Delete,
}

/// Runs dead jobs again, as [`retry`](crate::jobs::retry::retry) does one. Repeating it does no harm: what lives is passed over.
pub async fn requeue_dead(ctx: &Context, caller: &Caller, name: &QueueName, which: &SelectDead, origin: &Origin) -> Result<Requeued> {
    let (requeued, more) = deal(ctx, caller, name, which, (Deal::Requeue, origin)).await?;
    Ok(Requeued { requeued, more })
}

/// Deletes dead jobs with their history.
pub async fn delete_dead(ctx: &Context, caller: &Caller, name: &QueueName, which: &SelectDead, origin: &Origin) -> Result<Removed> {
    let (removed, more) = deal(ctx, caller, name, which, (Deal::Delete, origin)).await?;
    Ok(Removed { removed, more })
}

/// Returns how many were dealt with, and whether there may be more.
async fn deal(
    ctx: &Context,
    caller: &Caller,
    name: &QueueName,
    which: &SelectDead,
    (deal, origin): (Deal, &Origin),
) -> Result<(u64, bool)> {
    caller.require(Scope::QueuesAdmin)?;
    which.validate()?;
    let mut selector = Selector::of(which)?;
    known(ctx, name).await?;
    let _turn = ctx.jobs.dead_letters.within(caller.user_id, TURN_WITHIN, &()).await?;
    let began = Instant::now();
    let mut n_done = 0;
    let more = loop {
        if began.elapsed() > PATIENCE {
            break Ok(true);
        }
        match step(ctx, caller, name, &mut selector, deal).await {
            Ok(Some(n)) => n_done += n,
            Ok(None) => break Ok(false),
            Err(error) => break Err(error),
        }
    };
    if n_done > 0 {
        note(ctx, caller, name, which, (deal, n_done), origin).await?;
    }
    more.map(|more| (n_done, more))
}

/// Where the next step begins. It only moves forward, so a job that is requeued and dies again is not met twice.
enum Selector<'a> {
    Ids(&'a [Uuid]),
    Error { code: &'a str, after: Uuid },
    All { after: Uuid },
}

impl<'a> Selector<'a> {
    fn of(which: &'a SelectDead) -> Result<Self> {
        match (which.ids.as_deref(), which.error_code.as_deref(), which.all) {
            (Some(ids), None, None) => Ok(Self::Ids(ids)),
            (None, Some(code), None) => Ok(Self::Error { code, after: Uuid::nil() }),
            (None, None, Some(true)) => Ok(Self::All { after: Uuid::nil() }),
            (None, None, Some(false)) => Err(Error::invalid("/all", "not_true", "must be `true` or absent")),
            _ => Err(Error::invalid("", "exclusive", "must hold exactly one of `ids`, `error_code` and `all`")),
        }
    }

    async fn next(&mut self, ctx: &Context, queue: &str) -> Result<Vec<Uuid>> {
        match self {
            Self::Ids(ids) => {
                let step = usize::try_from(STEP).expect("a step is a few hundred");
                let (now, later) = ids.split_at(ids.len().min(step));
                *ids = later;
                Ok(store::dead::dead_among(ctx.by_values(), queue, now).await?)
            }
            Self::Error { code, after } => {
                let ids = store::dead::dead_ids_of_error(ctx.by_values(), queue, code, *after, STEP).await?;
                *after = ids.last().copied().unwrap_or(*after);
                Ok(ids)
            }
            Self::All { after } => {
                let ids = store::dead::dead_ids(ctx.by_values(), queue, *after, STEP).await?;
                *after = ids.last().copied().unwrap_or(*after);
                Ok(ids)
            }
        }
    }

    fn is_over(&self, found: &[Uuid]) -> bool {
        match self {
            Self::Ids(rest) => rest.is_empty() && found.is_empty(),
            Self::Error { .. } | Self::All { .. } => found.is_empty(),
        }
    }
}

/// How many were dealt with; `None` when there is nothing left.
async fn step(ctx: &Context, caller: &Caller, name: &QueueName, selector: &mut Selector<'_>, deal: Deal) -> Result<Option<u64>> {
    let ids = selector.next(ctx, name.as_str()).await?;
    if selector.is_over(&ids) {
        return Ok(None);
    }
    match deal {
        Deal::Delete => Ok(Some(store::dead::delete_dead(&ctx.pg, &ids).await?)),
        Deal::Requeue => {
            require_kinds(ctx, caller, &ids).await?;
            let inline_max = i32::try_from(INLINE_PAYLOAD_BYTES).expect("a kibibyte");
            let back = store::change::requeue_dead(&ctx.pg, &ids, ctx.clock.now(), inline_max).await?;
            let n_back = back.len() as u64;
            race::enqueue_requeued(ctx, name, back).await;
            Ok(Some(n_back))
        }
    }
}

/// Refuses callers who might not have submitted one of them.
async fn require_kinds(ctx: &Context, caller: &Caller, ids: &[Uuid]) -> Result<()> {
    let profile = ctx.settings().profile;
    for of_kind in store::dead::kinds_of(&ctx.pg, ids, &kinds::scoped_by_payload()).await? {
        let payload = of_kind.payload.as_ref().map(|payload| &*payload.0);
        kinds::admit_again(&of_kind.kind, caller, profile, payload)?;
    }
    Ok(())
}

/// One entry for the whole request, with what it came to.
async fn note(
    ctx: &Context,
    caller: &Caller,
    name: &QueueName,
    which: &SelectDead,
    (deal, n_jobs): (Deal, u64),
    origin: &Origin,
) -> Result<()> {
    let action = match deal {
        Deal::Requeue => Action::DeadRequeued,
        Deal::Delete => Action::DeadDeleted,
    };
    let selector = match (&which.ids, &which.error_code) {
        (Some(ids), _) => serde_json::json!({ "ids": ids.len() }),
        (None, Some(code)) => serde_json::json!({ "error_code": code }),
        (None, None) => serde_json::json!({ "all": true }),
    };
    let detail = serde_json::json!({ "queue": name.as_str(), "jobs": n_jobs, "selector": selector });
    let deed = Deed::by(caller, action, Subject::Queue, origin).with(detail);
    audit::record(&ctx.pg, ctx.clock.now(), deed).await
}
