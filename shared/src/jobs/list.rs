//! Jobs by page, newest first, over live and ended ones alike.

use super::{
    Job, JobState,
    engine::Lease,
    names,
    new_job::TAG_LENGTH_MAX,
    race,
    store::read::{JobRow, PageFilter, jobs_page, scan},
};
use crate::{
    Caller, Code, Context, Error, Result, Scope,
    ids::JobId,
    page::{self, Page, PageRequest},
    text,
};
use futures_util::{Stream, TryStreamExt};
use serde::Deserialize;
use std::{collections::HashMap, pin::pin};
use time::OffsetDateTime;
use utoipa::IntoParams;
use uuid::Uuid;

/// Jobs that one page looks at for a kind or a tag.
const SCANNED_MAX: i64 = 5_000;

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
    /// Created at this time or later.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub created_after: Option<OffsetDateTime>,
    /// Created before this time.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub created_before: Option<OffsetDateTime>,
    /// Items per page: 1 or more, cut to 1000; 50 when absent. A page of large jobs may be shorter and still have a next one;
    /// so may one of a rare `kind` or `tag`, down to no job at all.
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
    let filter = filter_of(caller, query, &request, running.as_deref());
    let now = ctx.clock.now();
    let rows = match (filter.kind, filter.tag) {
        (None, None) => fill_page(ctx, jobs_page(&ctx.pg, &filter, now, request.fetch()), &request).await?,
        (Some(_), _) | (_, Some(_)) => scan_page(ctx, &filter, now, &request).await?,
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

fn filter_of<'a>(caller: &Caller, query: &'a ListJobs, request: &PageRequest, running: Option<&'a [Uuid]>) -> PageFilter<'a> {
    let ends = [request.before, query.created_before.map(first_id)];
    let filter = PageFilter {
        owner_id: caller.owner_filter(),
        below: ends.into_iter().flatten().min(),
        from: query.created_after.map(first_id),
        queue: query.queue.as_deref(),
        kind: query.kind.as_deref(),
        tag: query.tag.as_deref(),
        ids: running,
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

/// A page of jobs by what no index knows: it looks at so many jobs and no further, and may so be short, or empty, and have a
/// next one.
async fn scan_page(ctx: &Context, filter: &PageFilter<'_>, now: OffsetDateTime, request: &PageRequest) -> Result<Page<JobRow>> {
    let scan = scan(&ctx.pg, filter, now, (SCANNED_MAX, request.fetch())).await?;
    let found = PageFilter { ids: Some(&scan.ids), ..PageFilter::default() };
    let page = fill_page(ctx, jobs_page(&ctx.pg, &found, now, request.fetch()), request).await?;
    let goes_on = scan.last.filter(|_| scan.n_scanned == SCANNED_MAX).map(|last| page::cursor_after(&last));
    Ok(Page { next_cursor: page.next_cursor.or(goes_on), ..page })
}

/// Reads until the page is full, or holds as many bytes as one answer may.
pub(super) async fn fill_page(
    ctx: &Context,
    rows: impl Stream<Item = sqlx::Result<JobRow>>,
    request: &PageRequest,
) -> Result<Page<JobRow>> {
    let bytes_max = ctx.settings().max_body_bytes.0;
    let limit = usize::try_from(request.limit).expect("limit is 1..=1000");
    let mut rows = pin!(rows);
    let mut items: Vec<JobRow> = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await? {
        bytes += row.payload.get().len() + row.result.as_ref().map_or(0, |result| result.get().len());
        let full = items.len() == limit || (bytes > bytes_max && !items.is_empty());
        if let Some(last) = items.last().filter(|_| full) {
            let next_cursor = Some(page::cursor_after(&last.id.0));
            return Ok(Page { items, next_cursor });
        }
        items.push(row);
    }
    Ok(Page { items, next_cursor: None })
}

/// Leases by job, where any of a page's jobs have one.
pub(super) type Leases = HashMap<JobId, Lease>;
