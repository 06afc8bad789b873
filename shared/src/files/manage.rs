//! What callers do with files: their own, and operators with all.

use super::{
    File, not_found,
    store::{self, sweep::Removed},
    sweep,
};
use crate::{
    Caller, Code, Context, Error, Result, Scope,
    accounts::{
        Origin,
        audit::{self, Action, Deed, Subject},
    },
    ids::FileId,
    page::{IdPageQuery, Page},
};

pub async fn get(ctx: &Context, caller: &Caller, id: FileId) -> Result<File> {
    caller.require(Scope::FilesRead)?;
    store::by_id(&ctx.pg, id, caller.owner_filter()).await?.ok_or_else(not_found)
}

/// Newest first.
pub async fn list(ctx: &Context, caller: &Caller, query: &IdPageQuery) -> Result<Page<File>> {
    caller.require(Scope::FilesRead)?;
    let request = query.parse()?;
    let files = store::page(ctx.by_values(), caller.owner_filter(), &request).await?;
    Ok(Page::from_rows(files, &request, |file| file.id.0))
}

/// Refuses a file that is not there, or not for the caller to read: whoever submits a job that reads it is asked this.
pub async fn require_readable(ctx: &Context, caller: &Caller, id: FileId) -> Result<()> {
    get(ctx, caller, id).await.map(drop)
}

/// Refuses to tell again of an upload whose file has been deleted since. Whoever knows of it has sent its content.
pub async fn require_still_there(ctx: &Context, id: FileId) -> Result<()> {
    if store::is_stored(&ctx.pg, id).await? {
        return Ok(());
    }
    let detail = "The file that was uploaded with this Idempotency-Key has been deleted since: with another key it is uploaded anew.";
    Err(Error::new(Code::Gone, detail))
}

/// Deletes a file. Its content goes at once, or as soon as the store is there again.
pub async fn delete(ctx: &Context, caller: &Caller, id: FileId, origin: &Origin) -> Result<()> {
    caller.require(Scope::FilesWrite)?;
    let mut tx = ctx.pg.begin().await?;
    let name = store::delete(&mut tx, id, caller.owner_filter()).await?.ok_or_else(not_found)?;
    let deed = Deed::by(caller, Action::FileDeleted, Subject::File(id), origin);
    audit::record(&mut *tx, ctx.clock.now(), deed.with(serde_json::json!({ "name": name }))).await?;
    tx.commit().await?;
    let removed = Removed { file_id: id, upload_id: None, was_stored: true, is_first_look: true };
    if let Err(error) = sweep::remove(ctx, &removed).await {
        tracing::warn!(file_id = %id, %error, "the content of a deleted file is left to the sweeper");
    }
    Ok(())
}
