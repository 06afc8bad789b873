//! Dead letters: points that were accepted and cannot be stored. Who sent them sees them, and operators see all; they may be sent again or
//! deleted, in bounded steps.

use super::{
    Point,
    append::Appending,
    entry::Sender,
    forms::json,
    store::{self, dead::Which},
};
use crate::{
    Caller, Context, Error, Result, Scope,
    accounts::{
        Origin,
        audit::{self, Action, Deed, Subject},
    },
    clock::{from_unix_ms, unix_ms},
    ids::{TrackId, UserId},
    page::{Page, page_request},
    pg::ByValues,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::{Postgres, Transaction, types::Json};
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;
use validator::Validate;

/// Dead letters that one step sends again or deletes.
const STEP: i64 = 1_000;
/// How long one request goes on; what is left then is for the next.
const PATIENCE: Duration = Duration::from_secs(5);
const IDS_MAX: u64 = 1_000;

/// A point on its way to the dead letters.
#[derive(Debug, Clone)]
pub(super) struct DeadPoint {
    pub(super) id: Uuid,
    pub(super) track_id: Option<TrackId>,
    pub(super) json: String,
    pub(super) code: &'static str,
    pub(super) detail: String,
    pub(super) sender: Sender,
}

impl DeadPoint {
    /// `None` where that is not known.
    pub(super) fn submitted_by(&self) -> Option<UserId> {
        Some(self.sender.user_id).filter(|id| !id.0.is_nil())
    }

    pub(super) fn received_at(&self) -> OffsetDateTime {
        from_unix_ms(self.sender.received_at_ms).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

/// A row of `points_dead`.
#[derive(Debug)]
pub(super) struct DeadRow {
    pub(super) id: Uuid,
    pub(super) track_id: Option<TrackId>,
    pub(super) point: Json<Box<RawValue>>,
    pub(super) code: String,
    pub(super) detail: String,
    pub(super) submitted_by: Option<UserId>,
    pub(super) for_all: bool,
    pub(super) received_at: OffsetDateTime,
}

/// A dead letter as callers see it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(example = json!({
    "id": "01a1fb40-f998-71ea-83d1-3bd51ccb0003", "track_id": "01a1fb40-0000-7000-8000-00000000dead",
    "point": {"track_id": "01a1fb40-0000-7000-8000-00000000dead", "recorded_at": "2026-11-21T10:00:00Z", "lat": 52.52, "lon": 13.405},
    "code": "unknown_track", "detail": "There is no such track, or it is not the submitter's.",
    "submitted_by": "01a1fb40-0000-7000-8000-000000000001", "received_at": "2026-11-21T10:00:01.2Z"
}))]
pub struct DeadLetter {
    pub id: Uuid,
    #[schema(required)]
    pub track_id: Option<TrackId>,
    /// As it was accepted.
    #[schema(value_type = Object)]
    pub point: Box<RawValue>,
    #[schema(example = "unknown_track")]
    pub code: String,
    pub detail: String,
    /// `null` when it is not known.
    #[schema(required)]
    pub submitted_by: Option<UserId>,
    #[serde(with = "time::serde::rfc3339")]
    pub received_at: OffsetDateTime,
}

impl From<DeadRow> for DeadLetter {
    fn from(row: DeadRow) -> Self {
        let DeadRow { id, track_id, point, code, detail, submitted_by, for_all: _, received_at } = row;
        Self { id, track_id, point: point.0, code, detail, submitted_by, received_at }
    }
}

/// Which dead letters to list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ListDeadPoints {
    /// Only those of this code.
    #[param(max_length = 100)]
    pub error_code: Option<String>,
    /// Items per page: 1 or more, cut to 1000; 50 when absent.
    #[param(minimum = 1, example = 50)]
    pub limit: Option<i64>,
    /// `next_cursor` of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]{21}[AQgw]$")]
    pub cursor: Option<String>,
}

/// Which dead letters to send again or delete: exactly one of the three.
#[derive(Debug, Clone, Default, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"error_code": "unknown_track"}))]
pub struct SelectDeadPoints {
    /// These; those that are not there are passed over.
    #[validate(length(min = 1, max = IDS_MAX))]
    #[schema(min_items = 1, max_items = 1_000)]
    pub ids: Option<Vec<Uuid>>,
    /// All of this code.
    #[validate(length(min = 1, max = 100))]
    #[schema(min_length = 1, max_length = 100)]
    pub error_code: Option<String>,
    /// `true`: all.
    pub all: Option<bool>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct RequeuedPoints {
    pub requeued: u64,
    /// The request ended for want of time: repeat it.
    pub more: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct RemovedPoints {
    pub removed: u64,
    /// The request ended for want of time: repeat it.
    pub more: bool,
}

/// Newest first.
pub async fn list(ctx: &Context, caller: &Caller, query: &ListDeadPoints) -> Result<Page<DeadLetter>> {
    caller.require(Scope::TracksRead)?;
    let request = page_request::<Uuid>(query.limit, query.cursor.as_deref())?;
    let code = query.error_code.as_deref();
    let rows = store::dead::page(ctx.by_values(), caller.owner_filter(), code, request.before, request.fetch()).await?;
    Ok(Page::from_rows(rows, &request, |row| row.id).map(DeadLetter::from))
}

/// Sends dead letters again, in the name of who sent them: to be stored if what was wrong with them has passed.
pub async fn requeue(ctx: &Context, caller: &Caller, which: &SelectDeadPoints, origin: &Origin) -> Result<RequeuedPoints> {
    let (requeued, more) = deal(ctx, caller, which, (Deal::Requeue, origin)).await?;
    Ok(RequeuedPoints { requeued, more })
}

pub async fn delete(ctx: &Context, caller: &Caller, which: &SelectDeadPoints, origin: &Origin) -> Result<RemovedPoints> {
    let (removed, more) = deal(ctx, caller, which, (Deal::Delete, origin)).await?;
    Ok(RemovedPoints { removed, more })
}

#[derive(Debug, Clone, Copy)]
enum Deal {
    Requeue,
    Delete,
}

/// Returns how many were dealt with, and whether there may be more.
async fn deal(ctx: &Context, caller: &Caller, which: &SelectDeadPoints, (deal, origin): (Deal, &Origin)) -> Result<(u64, bool)> {
    caller.require(Scope::TracksWrite)?;
    which.validate()?;
    check_one(which)?;
    let _turn = ctx.points.dead_letters_turn(caller.user_id).await?;
    let began = Instant::now();
    let mut selection = Which {
        submitter: caller.owner_filter(),
        ids: which.ids.as_deref(),
        code: which.error_code.as_deref(),
        up_to: Uuid::now_v7(),
        after: Uuid::nil(),
        limit: STEP,
    };
    let mut n_done = 0;
    let more = loop {
        if began.elapsed() > PATIENCE {
            break is_left(ctx, selection).await;
        }
        match step(ctx, &mut selection, deal).await {
            Ok(Some(n)) => n_done += n,
            Ok(None) => break Ok(false),
            Err(error) => break Err(error),
        }
    };
    if n_done > 0 {
        note(ctx, caller, which, (deal, n_done), origin).await?;
    }
    more.map(|more| (n_done, more))
}

fn check_one(which: &SelectDeadPoints) -> Result<()> {
    match (&which.ids, &which.error_code, which.all) {
        (Some(_), None, None) | (None, Some(_), None) | (None, None, Some(true)) => Ok(()),
        (None, None, Some(false)) => Err(Error::invalid("/all", "not_true", "must be `true` or absent")),
        _ => Err(Error::invalid("", "exclusive", "must hold exactly one of `ids`, `error_code` and `all`")),
    }
}

/// How many were dealt with; `None` when there is nothing left. They are claimed until all is done, so that of several requests at once one alone
/// deals with each letter.
async fn step(ctx: &Context, which: &mut Which<'_>, deal: Deal) -> Result<Option<u64>> {
    let mut tx = ctx.pg.begin().await?;
    let rows = store::dead::claim(ByValues(&mut *tx), *which).await?;
    let Some(last) = rows.last() else { return Ok(None) };
    which.after = last.id;
    // In a task of its own: callers who go away in the middle of it must not have points sent and kept.
    let ctx = ctx.clone();
    let concluding = tokio::spawn(async move { conclude(&ctx, tx, &rows, deal).await });
    concluding.await.map_err(Error::internal)?.map(Some)
}

async fn conclude(ctx: &Context, mut tx: Transaction<'static, Postgres>, rows: &[DeadRow], deal: Deal) -> Result<u64> {
    let points = match deal {
        Deal::Delete => Vec::new(),
        Deal::Requeue => readable(rows),
    };
    let ids: Vec<Uuid> = match deal {
        Deal::Delete => rows.iter().map(|row| row.id).collect(),
        Deal::Requeue => points.iter().map(|(row, _)| row.id).collect(),
    };
    let n_done = store::dead::delete(&mut *tx, &ids).await?;
    // Last before the commit: when something fails from here on, points that were sent are kept, and sent again by whoever repeats it. Each of them
    // that dies again is one letter more.
    append(ctx, &points).await?;
    tx.commit().await?;
    Ok(n_done)
}

/// Whether there are some that nobody is dealing with.
async fn is_left(ctx: &Context, which: Which<'_>) -> Result<bool> {
    Ok(!store::dead::claim(ctx.by_values(), Which { limit: 1, ..which }).await?.is_empty())
}

/// What can be sent again; the others stay.
fn readable(rows: &[DeadRow]) -> Vec<(&DeadRow, Point<'_>)> {
    let known = rows.iter().filter(|row| row.submitted_by.is_some());
    known.filter_map(|row| Some((row, json::point(row.point.get().as_bytes(), None).ok()?))).collect()
}

async fn append(ctx: &Context, points: &[(&DeadRow, Point<'_>)]) -> Result<()> {
    for of_one in points.chunk_by(|(one, _), (next, _)| (one.submitted_by, one.for_all) == (next.submitted_by, next.for_all)) {
        let row = of_one[0].0;
        let Some(user_id) = row.submitted_by else { continue };
        let sender = Sender { user_id, for_all: row.for_all, received_at_ms: unix_ms(ctx.clock.now()) };
        let mut appending = Appending::from_sender(ctx, sender);
        of_one.iter().for_each(|(_, point)| appending.add(point));
        appending.send(ctx).await?;
    }
    Ok(())
}

/// One entry for the whole request, with what it came to.
async fn note(ctx: &Context, caller: &Caller, which: &SelectDeadPoints, (deal, n_points): (Deal, u64), origin: &Origin) -> Result<()> {
    let action = match deal {
        Deal::Requeue => Action::DeadPointsRequeued,
        Deal::Delete => Action::DeadPointsDeleted,
    };
    let selector = match (&which.ids, &which.error_code) {
        (Some(ids), _) => serde_json::json!({ "ids": ids.len() }),
        (None, Some(code)) => serde_json::json!({ "error_code": code }),
        (None, None) => serde_json::json!({ "all": true }),
    };
    let deed = Deed::by(caller, action, Subject::Points, origin).with(serde_json::json!({ "points": n_points, "selector": selector }));
    audit::record(&ctx.pg, ctx.clock.now(), deed).await
}
