//! What callers do with tracks: their own, and operators with all.

use super::{
    ListTracks, ListedTrack, NewTrack, PatchTrack, Track,
    input::check_attributes,
    store::{self, Beside},
};
use crate::{
    Caller, Code, Context, Error, Result, Scope,
    accounts::{
        Origin,
        audit::{self, Action, Deed, Subject},
    },
    ids::{TrackId, UserId},
    page::Page,
    points::latest,
};
use sqlx::PgConnection;
use validator::Validate;

/// Makes a track in the caller's transaction.
pub async fn create(ctx: &Context, tx: &mut PgConnection, caller: &Caller, new: NewTrack) -> Result<Track> {
    caller.require(Scope::TracksWrite)?;
    new.validate()?;
    check_attributes(new.attributes.as_deref())?;
    let most = ctx.settings().tracks_per_user_max;
    if store::count(&mut *tx, caller.user_id).await? >= i64::from(most) {
        return Err(Error::new(Code::Conflict, format!("There are {most} tracks already: delete one first.")));
    }
    let now = ctx.clock.now();
    let track = Track {
        id: TrackId::new(),
        name: new.name,
        external_id: new.external_id,
        attributes: new.attributes,
        owner_id: caller.user_id,
        created_at: now,
        updated_at: now,
    };
    if store::insert(tx, &track).await? { Ok(track) } else { Err(name_taken()) }
}

pub async fn get(ctx: &Context, caller: &Caller, id: TrackId) -> Result<Track> {
    caller.require(Scope::TracksRead)?;
    store::by_id(&ctx.pg, id, caller.owner_filter()).await?.ok_or_else(not_found)
}

/// Newest first, each with what the query asks for beside it.
pub async fn list(ctx: &Context, caller: &Caller, query: &ListTracks) -> Result<Page<ListedTrack>> {
    caller.require(Scope::TracksRead)?;
    let request = query.page()?;
    let beside = Beside { latest: query.latest, hour: query.hour };
    let tracks = store::page(ctx.by_values(), caller.owner_filter(), query.external_id.as_deref(), beside, &request).await?;
    Ok(Page::from_rows(tracks, &request, |listed| listed.track.id.0))
}

/// Changes a track; `allow` sees it as it is while nobody else can change it, and may refuse.
pub async fn update(
    ctx: &Context,
    caller: &Caller,
    id: TrackId,
    patch: PatchTrack,
    allow: impl FnOnce(&Track) -> Result<()>,
) -> Result<Track> {
    caller.require(Scope::TracksWrite)?;
    patch.validate()?;
    check_attributes(patch.attributes.as_deref())?;
    let mut tx = ctx.pg.begin().await?;
    let mut track = store::lock(&mut tx, id, caller.owner_filter()).await?.ok_or_else(not_found)?;
    allow(&track)?;
    track.name = patch.name.unwrap_or(track.name);
    track.external_id = patch.external_id.or(track.external_id);
    track.attributes = patch.attributes.or(track.attributes);
    track.updated_at = ctx.clock.now();
    if !store::update(&mut tx, &track).await? {
        return Err(name_taken());
    }
    tx.commit().await?;
    Ok(track)
}

/// Deletes a track. Its points can no longer be read, and are removed in the course of some minutes.
pub async fn delete(ctx: &Context, caller: &Caller, id: TrackId, origin: &Origin) -> Result<()> {
    caller.require(Scope::TracksWrite)?;
    let mut tx = ctx.pg.begin().await?;
    let track = store::lock(&mut tx, id, caller.owner_filter()).await?.ok_or_else(not_found)?;
    store::delete(&mut tx, id).await?;
    let deed = Deed::by(caller, Action::TrackDeleted, Subject::Track(id), origin);
    audit::record(&mut *tx, ctx.clock.now(), deed.with(serde_json::json!({ "name": track.name }))).await?;
    tx.commit().await?;
    latest::forget(ctx, id).await;
    Ok(())
}

/// Refuses a track that is not there, or not for the caller to read.
pub async fn require_readable(ctx: &Context, caller: &Caller, id: TrackId) -> Result<()> {
    caller.require(Scope::TracksRead)?;
    if store::exists(&ctx.pg, id, caller.owner_filter()).await? { Ok(()) } else { Err(not_found()) }
}

/// Refuses a track that is not there, or not for the caller to send points of.
pub async fn require_writable(ctx: &Context, caller: &Caller, id: TrackId) -> Result<()> {
    caller.require(Scope::TracksWrite)?;
    if store::exists(&ctx.pg, id, caller.owner_filter()).await? { Ok(()) } else { Err(not_found()) }
}

/// Whether the owner of a job may do with everybody's tracks what others may with their own. Asked when the job runs: a role may have been
/// taken away since the submit.
pub async fn owner_sees_all(ctx: &Context, owner_id: UserId) -> Result<bool> {
    store::is_operator(&ctx.pg, owner_id).await
}

/// Whether `caller` may see the track `id`; what there is not nobody sees.
pub async fn is_visible(ctx: &Context, caller: &Caller, id: TrackId) -> Result<bool> {
    Ok(caller.scopes.contains(Scope::TracksRead) && store::exists(&ctx.pg, id, caller.owner_filter()).await?)
}

fn name_taken() -> Error {
    Error::new(Code::Conflict, "Another track has that `external_id`.")
}

fn not_found() -> Error {
    Error::not_found("track")
}
