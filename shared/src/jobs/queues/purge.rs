//! Empty a queue: its waiting jobs, or those of one state, in bounded steps.

use crate::{
    Caller, Context, Error, Result, Scope,
    accounts::{
        Origin,
        audit::{self, Action, Deed, Subject},
    },
    ids::JobId,
    jobs::{
        JobState, QueueName, aftermath,
        engine::{self, Standing, Taken, Token},
        queues::Durability,
        store::{self, change::LiveFilter},
    },
};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    future::ready,
    time::{Duration, Instant},
};
use utoipa::ToSchema;
use uuid::Uuid;
use validator::Validate;

/// Jobs removed by one statement.
const STEP: i64 = 1_000;
/// Calls to Redis under way at once.
const CALLS: usize = 64;
/// How long one purge goes on; what is left then is for the next.
const PATIENCE: Duration = Duration::from_secs(5);

/// What to remove.
#[derive(Debug, Clone, Default, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"state": "queued"}))]
pub struct Purge {
    /// Only jobs of this state; absent: all that are to be done and that no worker holds.
    pub state: Option<JobState>,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct Purged {
    /// Jobs removed. A purge ends after some seconds: repeat it until this is 0.
    pub removed: u64,
}

pub async fn purge(ctx: &Context, caller: &Caller, name: &QueueName, purge: &Purge, origin: &Origin) -> Result<Purged> {
    caller.require(Scope::QueuesAdmin)?;
    let settings = super::settings::existing(ctx, name).await?;
    let removed = match purge.state {
        Some(JobState::Running) => return Err(Error::invalid("/state", "not_supported", "cannot be `running`: cancel those jobs")),
        Some(state @ (JobState::Succeeded | JobState::Dead | JobState::Cancelled | JobState::Expired)) => {
            purge_ended(ctx, name, state).await?
        }
        None => purge_live(ctx, name, LiveFilter::default()).await?,
        Some(JobState::Queued) => {
            purge_live(ctx, name, LiveFilter { state: Some("pending"), due: Some(true), failed_before: None }).await?
        }
        Some(JobState::Scheduled) => {
            purge_live(ctx, name, LiveFilter { state: Some("pending"), due: Some(false), failed_before: Some(false) }).await?
        }
        Some(JobState::Retrying) => {
            purge_live(ctx, name, LiveFilter { state: Some("pending"), due: Some(false), failed_before: Some(true) }).await?
        }
        Some(JobState::Waiting) => purge_live(ctx, name, LiveFilter { state: Some("waiting"), due: None, failed_before: None }).await?,
    };
    let n_volatile = match settings.durability {
        Durability::Postgres => 0,
        Durability::Redis => purge_volatile(ctx, name, purge.state).await?,
    };
    let removed = removed + n_volatile;
    let detail = json!({ "queue": name.as_str(), "state": purge.state, "jobs": removed });
    audit::record(&ctx.pg, ctx.clock.now(), Deed::by(caller, Action::QueuePurged, Subject::Queue, origin).with(detail)).await?;
    Ok(Purged { removed })
}

async fn purge_ended(ctx: &Context, name: &QueueName, state: JobState) -> Result<u64> {
    let began = Instant::now();
    let mut removed = 0;
    while began.elapsed() < PATIENCE {
        let n_deleted = store::change::delete_ended_of(&ctx.pg, name.as_str(), state.as_str(), STEP).await?;
        removed += n_deleted;
        if n_deleted == 0 {
            break;
        }
    }
    Ok(removed)
}

async fn purge_live(ctx: &Context, name: &QueueName, filter: LiveFilter) -> Result<u64> {
    let began = Instant::now();
    let now = ctx.clock.now();
    let (mut removed, mut after) = (0, Uuid::nil());
    while began.elapsed() < PATIENCE {
        let rows = store::change::live_of(ctx.by_values(), name.as_str(), &filter, now, after, STEP).await?;
        let Some((last, _)) = rows.last() else { break };
        after = last.0;
        removed += remove(ctx, name, &rows).await?;
    }
    Ok(removed)
}

/// Removes waiting jobs that have no row.
async fn purge_volatile(ctx: &Context, name: &QueueName, state: Option<JobState>) -> Result<u64> {
    let began = Instant::now();
    let (mut removed, mut cursor) = (0, 0);
    while began.elapsed() < PATIENCE {
        let (waiting, next) = engine::volatile::waiting_page(ctx, name, cursor).await?;
        let ids = waiting.into_iter().filter(|(_, is)| state.is_none_or(|state| state == *is)).map(|(id, _)| id);
        let removing = ids.map(|id| async move {
            let Taken::Taken(token, standing) = engine::take_to_delete(ctx, name, id).await? else { return Ok(None) };
            engine::forget(ctx, name, token, standing).await?;
            Ok::<_, Error>(Some(id.0))
        });
        let gone = stream::iter(removing).buffer_unordered(CALLS).try_filter_map(|id| ready(Ok(id))).try_collect::<Vec<Uuid>>().await?;
        store::change::delete_attempts(&ctx.pg, &gone).await?;
        removed += gone.len() as u64;
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    Ok(removed)
}

/// Takes waiting copies out of the race, then deletes their rows; what a worker holds stays.
async fn remove(ctx: &Context, name: &QueueName, rows: &[(JobId, i32)]) -> Result<u64> {
    let taking =
        rows.iter().map(|&(id, attempt)| async move { Ok::<_, Error>((id, attempt, engine::take_to_delete(ctx, name, id).await?)) });
    let taken = stream::iter(taking).buffer_unordered(CALLS).try_collect::<Vec<_>>().await?;
    let mut ids = Vec::with_capacity(taken.len());
    let mut attempts = Vec::with_capacity(taken.len());
    let mut copies: Vec<(Token, Standing)> = Vec::with_capacity(taken.len());
    for (id, attempt, taken) in taken {
        match taken {
            Taken::Running | Taken::Settling => continue,
            Taken::Absent => attempts.push(attempt + 1),
            Taken::Taken(token, standing) => {
                attempts.push(token.attempt);
                copies.push((token, standing));
            }
        }
        ids.push(id.0);
    }
    let deleted = store::change::delete_live_many(&ctx.pg, &ids, &attempts).await?;
    aftermath::note(ctx, deleted.iter().map(|deleted| (deleted.awaited, deleted.batch_id)));
    let forgetting = copies.into_iter().map(|(token, standing)| engine::forget(ctx, name, token, standing));
    stream::iter(forgetting).buffer_unordered(CALLS).try_collect::<Vec<()>>().await?;
    Ok(deleted.len() as u64)
}
