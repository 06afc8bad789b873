//! Jobs by page, newest first, over live and ended ones alike.

use super::{
    Job, JobState,
    batches::store::members,
    engine::Lease,
    names,
    new_job::TAG_LENGTH_MAX,
    race,
    store::read::{JobRow, PageFilter, Scan, jobs_page, named_jobs_page, scan, scan_queue},
};
use crate::{
    Caller, Code, Context, Error, Result, Scope,
    ids::{BatchId, JobId},
    page::{self, Page, PageRequest},
    text,
};
use futures_util::TryStreamExt;
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use time::OffsetDateTime;
use utoipa::IntoParams;
use uuid::Uuid;

/// Jobs that one page looks at for a kind or a tag, or an owner's for a queue.
const SCANNED_MAX: i64 = 5_000;
/// The same for a state that no index knows, where that alone is asked for. More, since who has no more than these finds all on one page.
const SCANNED_FOR_STATE_MAX: i64 = 20_000;
/// What jobs may be that have not ended, as stored.
const LIVE: [&str; 2] = ["pending", "waiting"];
const ENDED: [&str; 4] = ["succeeded", "dead", "cancelled", "expired"];
/// The same in one queue, where up to as many of each of five states are read to find the newest.
const SCANNED_OF_QUEUE_MAX: i64 = SCANNED_MAX / 5;
/// Jobs of a batch that one page looks at.
const MEMBERS_MAX: i64 = 1_000;

/// Which jobs to list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ListJobs {
    pub state: Option<JobState>,
    #[param(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    pub queue: Option<String>,
    #[param(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    pub kind: Option<String>,
    #[param(max_length = 64)]
    pub tag: Option<String>,
    /// Only those of this batch.
    pub batch_id: Option<BatchId>,
    /// Created at this time or later.
    #[serde(default, with = "crate::instant")]
    pub created_after: Option<OffsetDateTime>,
    /// Created before this time.
    #[serde(default, with = "crate::instant")]
    pub created_before: Option<OffsetDateTime>,
    /// Items per page: 1 or more, cut to 1000; 50 when absent. A page of large jobs may be shorter and still have a next one;
    /// so may one of a rare `kind`, `tag`, `queue` or `state`, or of a batch, down to no job at all.
    #[param(minimum = 1, example = 50)]
    pub limit: Option<i64>,
    /// `next_cursor` of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]{21}[AQgw]$")]
    pub cursor: Option<String>,
}

/// One page of the jobs that `caller` may see.
pub async fn list(ctx: &Context, caller: &Caller, query: &ListJobs) -> Result<Page<Job>> {
    caller.require(Scope::JobsRead)?;
    let request = page::page_request(query.limit, query.cursor.as_deref())?;
    check(query)?;
    let running = match query.state {
        Some(JobState::Running) => Some(race::running_ids(ctx, query.queue.as_deref()).await?),
        _ => None,
    };
    let filter = filter_of(caller, query, &request);
    let now = ctx.clock.now();
    let rows = match Way::of(&filter) {
        _ if query.batch_id.is_some() => batch_page(ctx, query, running, &filter, &request).await?,
        _ if running.is_some() => named_page(ctx, running.unwrap_or_default(), &filter, &request).await?,
        Way::Indexed => {
            let read = async |below: Option<Uuid>, limit| {
                let rest = PageFilter { below: below.into_iter().chain(filter.below).min(), ..filter };
                jobs_page(ctx.by_values(), &rest, limit).try_collect().await
            };
            fill_page(ctx, &request, read).await?
        }
        Way::Scan { among, scan_max } => {
            let found = scan(ctx.by_values(), &filter, among, now, (scan_max, request.fetch())).await?;
            found_page(ctx, found, scan_max, &request).await?
        }
        Way::ScanQueue(queue, scan_max) => {
            let scan_max = scan_max.unwrap_or(request.fetch());
            let found = scan_queue(ctx.by_values(), queue, &filter, (scan_max, request.fetch())).await?;
            found_page(ctx, found, scan_max, &request).await?
        }
    };
    let mut leases = race::leases(ctx, &rows.items).await;
    let overlay = |row: JobRow| {
        let lease = leases.remove(&row.id);
        row.into_job(lease, now)
    };
    let mut items = rows.items.into_iter().map(overlay).collect::<Result<Vec<_>>>()?;
    // What the lease says beats what the row says: such a job is in another list.
    items.retain(|job| query.state.is_none_or(|state| state == job.state));
    Ok(Page { items, next_cursor: rows.next_cursor })
}

/// Of a batch's next jobs those that match, and are among `running` where that is told.
async fn batch_page(
    ctx: &Context,
    query: &ListJobs,
    running: Option<Vec<Uuid>>,
    filter: &PageFilter<'_>,
    request: &PageRequest,
) -> Result<Page<JobRow>> {
    let Some(batch_id) = query.batch_id else { return Ok(Page { items: Vec::new(), next_cursor: None }) };
    let mut ids = members(&ctx.pg, batch_id, filter.below, MEMBERS_MAX).await?;
    let is_full = i64::try_from(ids.len()).is_ok_and(|n_ids| n_ids == MEMBERS_MAX);
    let goes_on = ids.last().copied().filter(|last| is_full && filter.from.is_none_or(|from| *last > from));
    if let Some(running) = running {
        let running = running.into_iter().collect::<HashSet<_>>();
        ids.retain(|id| running.contains(id));
    }
    let page = named_page(ctx, ids, filter, request).await?;
    Ok(Page { next_cursor: page.next_cursor.or(goes_on.map(|last| page::cursor_after(&last))), ..page })
}

/// The page of those of `ids` that match.
async fn named_page(ctx: &Context, mut ids: Vec<Uuid>, filter: &PageFilter<'_>, request: &PageRequest) -> Result<Page<JobRow>> {
    ids.retain(|id| filter.below.is_none_or(|below| *id < below) && filter.from.is_none_or(|from| *id >= from));
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Ok(Page { items: Vec::new(), next_cursor: None });
    }
    let now = ctx.clock.now();
    let read = async |below: Option<Uuid>, limit| {
        let rest = &ids[..ids.partition_point(|id| below.is_none_or(|below| *id < below))];
        if rest.is_empty() {
            return Ok(Vec::new());
        }
        named_jobs_page(ctx.by_values(), rest, filter, now, limit).try_collect().await
    };
    fill_page(ctx, request, read).await
}

fn check(query: &ListJobs) -> Result<()> {
    for (name, value) in [("queue", &query.queue), ("kind", &query.kind)] {
        if value.as_deref().is_some_and(|value| !names::is_name(value)) {
            return Err(Error::new(Code::InvalidQuery, format!("`{name}` {}.", names::NAME_RULE)));
        }
    }
    match query.tag.as_deref() {
        Some(tag) if tag.chars().count() > TAG_LENGTH_MAX => {
            Err(Error::new(Code::InvalidQuery, format!("`tag` must have at most {TAG_LENGTH_MAX} characters.")))
        }
        Some(tag) => text::check_no_nul(tag),
        None => Ok(()),
    }
}

fn filter_of<'a>(caller: &Caller, query: &'a ListJobs, request: &PageRequest) -> PageFilter<'a> {
    let ends = [request.before, query.created_before.map(first_id)];
    let filter = PageFilter {
        owner_id: caller.owner_filter(),
        below: ends.into_iter().flatten().min(),
        from: query.created_after.map(first_id),
        queue: query.queue.as_deref(),
        kind: query.kind.as_deref(),
        tag: query.tag.as_deref(),
        ..PageFilter::default()
    };
    match query.state {
        None => filter,
        Some(JobState::Queued) => PageFilter { state: Some("pending"), due: Some(true), ..filter },
        Some(JobState::Running) => PageFilter { state: Some("pending"), ..filter },
        Some(JobState::Scheduled) => PageFilter { state: Some("pending"), due: Some(false), failed_before: Some(false), ..filter },
        Some(JobState::Retrying) => PageFilter { state: Some("pending"), due: Some(false), failed_before: Some(true), ..filter },
        Some(JobState::Waiting) => PageFilter { state: Some("waiting"), ..filter },
        Some(state @ (JobState::Succeeded | JobState::Dead | JobState::Cancelled | JobState::Expired)) => {
            PageFilter { state: Some(state.as_str()), ..filter }
        }
    }
}

/// The lowest id that a job created at `at` may have.
fn first_id(at: OffsetDateTime) -> Uuid {
    let at_ms = u128::try_from(crate::clock::unix_ms(at)).unwrap_or(0);
    Uuid::from_u128(at_ms << 80)
}

/// How a page's jobs are found.
enum Way<'a> {
    /// An index has them in order.
    Indexed,
    /// No index knows all that is asked for: so many jobs are looked at, of these states where no index knows the state, and no further.
    Scan { among: Option<&'static [&'static str]>, scan_max: i64 },
    /// A queue's jobs in whatever state; of a rare kind or tag so many are looked at, and else those of the page.
    ScanQueue(&'a str, Option<i64>),
}

impl<'a> Way<'a> {
    fn of(filter: &PageFilter<'a>) -> Self {
        let is_rare = filter.kind.is_some() || filter.tag.is_some();
        let among = among(filter);
        match (filter.owner_id, filter.queue, filter.state) {
            (None, Some(queue), None) => Self::ScanQueue(queue, is_rare.then_some(SCANNED_OF_QUEUE_MAX)),
            (Some(_), Some(_), _) => Self::Scan { among, scan_max: SCANNED_MAX },
            (_, None, _) | (None, Some(_), Some(_)) if is_rare => Self::Scan { among, scan_max: SCANNED_MAX },
            (_, None, _) | (None, Some(_), Some(_)) if among.is_some() => Self::Scan { among, scan_max: SCANNED_FOR_STATE_MAX },
            (_, None, _) | (None, Some(_), Some(_)) => Self::Indexed,
        }
    }
}

/// All states of jobs that are where those of the filter's state are; `None` where an index finds these, or none is asked for.
fn among(filter: &PageFilter<'_>) -> Option<&'static [&'static str]> {
    let is_of_queue = filter.owner_id.is_none() && filter.queue.is_some();
    match filter.state? {
        state if LIVE.contains(&state) => Some(&LIVE),
        "succeeded" if !is_of_queue => Some(&ENDED),
        _ => None,
    }
}

/// The page of jobs that were found; it may be short, or empty, and have a next one.
///
/// Where the next page begins is what the look says: some of what it found may be gone by now.
pub(super) async fn found_page(ctx: &Context, scan: Scan, scan_max: i64, request: &PageRequest) -> Result<Page<JobRow>> {
    let limit = usize::try_from(request.limit).expect("limit is 1..=1000");
    let ids = &scan.ids[..scan.ids.len().min(limit)];
    let goes_on = match ids.last() {
        Some(last) if scan.ids.len() > limit => Some(*last),
        Some(_) | None => scan.last.filter(|_| scan.n_scanned == scan_max),
    };
    let page = named_page(ctx, ids.to_vec(), &PageFilter::default(), request).await?;
    // One that is full before it has all that was found goes on behind what it has.
    Ok(Page { next_cursor: page.next_cursor.or(goes_on.map(|last| page::cursor_after(&last))), ..page })
}

/// Reads until the page is full, or holds as many bytes as one answer may.
pub(super) async fn fill_page(
    ctx: &Context,
    request: &PageRequest,
    read: impl AsyncFn(Option<Uuid>, i64) -> sqlx::Result<Vec<JobRow>>,
) -> Result<Page<JobRow>> {
    let bytes = |row: &JobRow| row.payload.get().len() + row.result.as_ref().map_or(0, |result| result.get().len());
    page::fill(request, ctx.settings().max_body_bytes.0, |row| (row.id.0, bytes(row)), read).await
}

/// Leases by job, where any of a page's jobs have one.
pub(super) type Leases = HashMap<JobId, Lease>;
