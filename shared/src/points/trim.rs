//! Dead letters beyond what one user may have go, the oldest first: whoever sends points to tracks that are not there is not to fill the disk.

use super::store::dead as rows;
use crate::{Context, Result, ids::UserId};
use uuid::Uuid;

/// Rows of one statement.
const ROWS: i64 = 10_000;
/// Users that one statement tells.
const PAGE: i64 = 100;

/// Looks at everybody who has dead letters; what the leader does now and then.
pub async fn trim_dead(ctx: &Context) -> Result<()> {
    let most = i64::from(ctx.settings().dead_points_per_user_max);
    if most == 0 {
        return Ok(());
    }
    let mut after = Uuid::nil();
    loop {
        let users = rows::submitters(&ctx.pg, after, PAGE).await?;
        let Some(last) = users.last() else { return Ok(()) };
        after = last.0;
        for id in users {
            trim(ctx, id, most).await?;
        }
    }
}

async fn trim(ctx: &Context, id: UserId, most: i64) -> Result<()> {
    let Some(up_to) = rows::newest_beyond(&ctx.pg, id, most).await? else { return Ok(()) };
    let (mut after, mut n_removed) = (Uuid::nil(), 0);
    while let Some((last, n_rows)) = remove_some(ctx, id, (after, up_to)).await? {
        after = last;
        n_removed += n_rows;
    }
    tracing::warn!(user_id = %id, n_removed, "the oldest dead letters of points were removed: their user has more than they may");
    Ok(())
}

/// Removes some of a user's dead letters between two ids, the oldest first; returns the last of them, and how many they were. There may be
/// millions, and while a backup runs no removed one is vacuumed: each step goes on behind the one before, and does not look at all of those again.
pub(crate) async fn remove_some(ctx: &Context, id: UserId, (after, up_to): (Uuid, Uuid)) -> Result<Option<(Uuid, usize)>> {
    let removed = rows::delete_oldest(&ctx.pg, id, (after, up_to), ROWS).await?;
    Ok(removed.iter().max().map(|last| (*last, removed.len())))
}
