//! What deleted accounts had is removed some rows at a time, and last the row of the account: its owner may have millions of points that could
//! not be stored, and no statement is to take long, or to lock what others wait for.
//!
//! It begins in the request that deletes the account, for a moment that is enough for nearly all. The leader goes on with the rest, whoever died.

use super::store::removal::{self as rows, Part};
use crate::{Context, Result, ids::UserId, points::trim};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Rows of one statement.
const ROWS: i64 = 10_000;
/// Accounts that one statement tells.
const PAGE: i64 = 100;
/// How long a request goes on with it before it answers.
const IN_REQUEST: Duration = Duration::from_secs(1);

/// Begins to remove what a deleted account had. That it is deleted stands already, whatever becomes of this.
pub(super) async fn begin(ctx: &Context, id: UserId) {
    let until = Instant::now() + IN_REQUEST;
    if let Err(error) = remove(ctx, id, Some(until)).await {
        tracing::warn!(%error, user_id = %id, "what a deleted account had is left to the leader of the workers");
    }
}

/// Removes what is left of deleted accounts; what the leader does now and then. One that fails does not keep the others.
pub async fn remove_deleted(ctx: &Context) -> Result<()> {
    let mut after = Uuid::nil();
    loop {
        let ids = rows::deleted(&ctx.pg, after, PAGE).await?;
        let Some(last) = ids.last() else { return Ok(()) };
        after = last.0;
        for id in ids {
            match remove(ctx, id, None).await {
                Ok(()) => tracing::info!(user_id = %id, "what a deleted account had is removed"),
                Err(error) => tracing::warn!(%error, user_id = %id, "what a deleted account had is not removed; it is tried again"),
            }
        }
    }
}

/// Removes what `id` had, step by step, and the row if it gets so far by `until`.
async fn remove(ctx: &Context, id: UserId, until: Option<Instant>) -> Result<()> {
    let is_late = || until.is_some_and(|until| Instant::now() >= until);
    let mut after = Uuid::nil();
    while let Some((last, _)) = trim::remove_some(ctx, id, (after, Uuid::max())).await? {
        after = last;
        if is_late() {
            return Ok(());
        }
    }
    for part in Part::ALL {
        while rows::part(&ctx.pg, part, id, ROWS).await? >= ROWS.unsigned_abs() {
            if is_late() {
                return Ok(());
            }
        }
    }
    rows::user(&ctx.pg, id).await
}
