//! What was left behind: files that nobody finished, objects whose rows are gone, and now and then a comparison of the whole store with the
//! table.
//!
//! Whatever is begun has a row first, so that all of the ordinary leavings are found by it. The comparison is for the rest: a database that
//! was restored, an object that somebody else removed. It removes objects that no row names, once they are old; rows without an object it
//! marks and counts, and never removes: a store that was mounted in the wrong place would take all files with it.

use super::{
    StoreId,
    storage::{Listed, Listing},
    store::{
        self,
        sweep::{self as rows, Removed},
    },
};
use crate::{
    Context, Result,
    ids::FileId,
    telemetry::metrics::{FILES_MISSING, FILES_REMOVED},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeSet, HashSet};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// Rows of one statement, and statements in one go: no long lock, no endless run.
const ROWS: i64 = 1_000;
const ROUNDS: usize = 100;
/// Objects that are removed at once.
const REMOVING: usize = 8;
/// One that could not be removed.
const TRIED_AGAIN_AFTER: Duration = Duration::minutes(10);
/// By how much the clocks of processes may differ.
const CLOCKS_DIFFER: Duration = Duration::minutes(1);
/// Hexadecimal digits of an id that a window leaves open, in bits.
const WINDOW_SHIFT: u32 = 104;
const WINDOWS: u32 = 1 << 24;

/// What the leader does now and then.
pub async fn keep_house(ctx: &Context) -> Result<()> {
    give_up_unfinished(ctx).await?;
    remove_due(ctx).await?;
    let hours = ctx.settings().file_scan_hours;
    let now = ctx.clock.now();
    if hours > 0 && rows::begin_scan(&ctx.pg, now - Duration::hours(hours.into()), now).await? {
        scan(ctx).await?;
    }
    metrics::gauge!(FILES_MISSING).set(rows::count_missing(&ctx.pg).await? as f64);
    Ok(())
}

async fn give_up_unfinished(ctx: &Context) -> Result<()> {
    let before = ctx.clock.now() - unfinished_for(ctx);
    for _ in 0..ROUNDS {
        let n_given_up = rows::delete_unfinished(&ctx.pg, before, ROWS).await?;
        if n_given_up > 0 {
            tracing::info!(n_files = n_given_up, "files that nobody finished were given up");
        }
        if n_given_up < ROWS.unsigned_abs() {
            break;
        }
    }
    Ok(())
}

async fn remove_due(ctx: &Context) -> Result<()> {
    for _ in 0..ROUNDS {
        let due = rows::removed(&ctx.pg, ctx.clock.now(), ROWS).await?;
        let is_last = due.len() < usize::try_from(ROWS).unwrap_or(usize::MAX);
        let each: Vec<_> = due.iter().map(|removed| remove_or_postpone(ctx, removed)).collect();
        stream::iter(each).buffer_unordered(REMOVING).try_collect::<()>().await?;
        if is_last {
            break;
        }
    }
    Ok(())
}

/// One that cannot be removed holds up no other: it is tried again when they have had their turn.
async fn remove_or_postpone(ctx: &Context, removed: &Removed) -> Result<()> {
    let Err(error) = remove(ctx, removed).await else { return Ok(()) };
    tracing::warn!(file_id = %removed.file_id, %error, "an object cannot be removed; it is tried again later");
    // What was never finished is removed for good by the next look, before which its writer must have given up.
    let later = if removed.was_stored { TRIED_AGAIN_AFTER } else { unfinished_for(ctx) };
    rows::postpone(&ctx.pg, removed.file_id, ctx.clock.now() + later).await
}

/// Removes an object whose row is gone, and then the note of it. The note of one that was never finished stays for a while: its writer may be
/// alive, and complete it in this moment.
pub(super) async fn remove(ctx: &Context, removed: &Removed) -> Result<()> {
    let store_id = ctx.files.store_id(ctx).await?;
    ctx.storage.remove(store_id.key(removed.file_id), removed.upload_id.as_deref()).await?;
    let (why, is_last_look) = if removed.was_stored { ("deleted", true) } else { ("unfinished", !removed.is_first_look) };
    if removed.is_first_look {
        metrics::counter!(FILES_REMOVED, "why" => why).increment(1);
    }
    match is_last_look {
        true => rows::forget(&ctx.pg, removed.file_id).await,
        false => rows::postpone(&ctx.pg, removed.file_id, ctx.clock.now() + unfinished_for(ctx)).await,
    }
}

fn unfinished_for(ctx: &Context) -> Duration {
    Duration::seconds(i64::try_from(ctx.settings().file_unfinished_s).unwrap_or(i64::MAX))
}

/// Compares the store with the table, window by window: ids sort by time, and so do windows, so that each is one stretch of the table.
pub async fn scan(ctx: &Context) -> Result<()> {
    let store_id = ctx.files.store_id(ctx).await?;
    // A window that is not listed may get its first object while others are looked at.
    let listed_at = ctx.clock.now();
    let listed = ctx.storage.windows(store_id).await?;
    let windows: BTreeSet<u32> = listed.iter().filter_map(|name| u32::from_str_radix(name, 16).ok()).collect();
    let mut next = 0;
    for window in windows {
        // What lies between windows has no objects at all.
        compare(ctx, next..window, &Listing::default(), listed_at).await?;
        let began_at = ctx.clock.now();
        let listing = ctx.storage.list(store_id, &format!("{window:06x}")).await?;
        remove_orphans(ctx, store_id, &listing).await?;
        compare(ctx, window..window + 1, &listing, began_at).await?;
        next = window + 1;
    }
    compare(ctx, next..WINDOWS, &Listing::default(), listed_at).await
}

/// Removes objects that no row names.
async fn remove_orphans(ctx: &Context, store_id: StoreId, listing: &Listing) -> Result<()> {
    let alone_for = Duration::seconds(i64::try_from(ctx.settings().file_orphan_s).unwrap_or(i64::MAX));
    let before = ctx.clock.now() - alone_for;
    let old: Vec<Listed> = listing.objects.iter().filter(|object| object.modified_at <= before).copied().collect();
    for objects in old.chunks(usize::try_from(ROWS).unwrap_or(usize::MAX)) {
        let ids: Vec<Uuid> = objects.iter().map(|object| object.file_id.0).collect();
        let known: HashSet<Uuid> = store::known(&ctx.pg, &ids).await?.into_iter().collect();
        for object in objects.iter().filter(|object| !known.contains(&object.file_id.0)) {
            ctx.storage.remove(store_id.key(object.file_id), None).await?;
            metrics::counter!(FILES_REMOVED, "why" => "orphaned").increment(1);
            tracing::info!(file_id = %object.file_id, is_partial = object.is_partial, "removed an object that no file names");
        }
    }
    Ok(())
}

/// Marks the files of some windows whose objects the listing does not have, and takes the mark off others.
async fn compare(ctx: &Context, windows: std::ops::Range<u32>, listing: &Listing, listed_at: OffsetDateTime) -> Result<()> {
    if windows.is_empty() {
        return Ok(());
    }
    if listing.is_cut {
        tracing::warn!(window = windows.start, "too many objects to look for missing ones among them");
        return Ok(());
    }
    let there: HashSet<FileId> = listing.objects.iter().filter(|object| !object.is_partial).map(|object| object.file_id).collect();
    let (mut from, to) = (first_of(windows.start), (windows.end < WINDOWS).then(|| first_of(windows.end)));
    let (mut n_missing, mut n_changed) = (0, 0);
    // Marked as far as it was looked at: of a store that is not there, all files are missing.
    loop {
        let ids = rows::stored_between(&ctx.pg, from, to, listed_at - CLOCKS_DIFFER, ROWS).await?;
        let missing: Vec<Uuid> = ids.iter().filter(|id| !there.contains(&FileId(**id))).copied().collect();
        let goes_on = ids.last().filter(|_| ids.len() == usize::try_from(ROWS).unwrap_or(usize::MAX));
        let next = goes_on.map(|last| Uuid::from_u128(last.as_u128() + 1));
        n_missing += missing.len();
        n_changed += rows::mark_missing(&ctx.pg, from, next.or(to), &missing, ctx.clock.now()).await?;
        let Some(next) = next else { break };
        from = next;
    }
    if n_changed > 0 {
        tracing::warn!(n_missing, n_changed, "files whose content is missing, of about four hours of uploads");
    }
    Ok(())
}

fn first_of(window: u32) -> Uuid {
    Uuid::from_u128(u128::from(window) << WINDOW_SHIFT)
}
