//! What owners do with their endpoints; operators may with everybody's.

use super::{
    Endpoint, EndpointSettings, EndpointState,
    deliver::{self, Destination},
    input::{NewEndpoint, PatchEndpoint, TIMEOUT_MS, TargetMethod, check_headers, milliseconds},
    store::{self, EndpointRow},
};
use crate::{
    Caller, Code, Context, Error, Result, Scope,
    ids::EndpointId,
    outbound::{Refused, breaker, signature::Secret},
    page::{Page, PageRequest},
};
use serde::Serialize;
use sqlx::PgConnection;
use std::time::Duration;
use utoipa::ToSchema;
use validator::Validate;

/// How long the secret before the last signs too.
const ROTATION: time::Duration = time::Duration::hours(24);

/// What a trial delivery came to.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Trial {
    /// Of the answer; `null` when there was none.
    #[schema(required, minimum = 100, maximum = 999, example = 204)]
    pub status: Option<u16>,
    pub duration_ms: u64,
    /// The beginning of the answer's body, or why there was no answer.
    pub body_excerpt: String,
}

/// Makes an endpoint in the caller's transaction. The answer alone has the secret.
pub async fn create(ctx: &Context, tx: &mut PgConnection, caller: &Caller, new: &NewEndpoint) -> Result<Endpoint> {
    caller.require(Scope::JobsWrite)?;
    new.validate()?;
    let settings = EndpointSettings {
        id: EndpointId::new(),
        name: new.name.clone(),
        url: checked_url(ctx, &new.url).await?,
        headers: new.headers.clone().unwrap_or_default(),
        timeout_ms: milliseconds(new.timeout_ms).unwrap_or(TIMEOUT_MS),
        state: EndpointState::Active,
        created_at: ctx.clock.now(),
    };
    check_headers(&settings.headers, "/headers")?;
    let most = ctx.settings().endpoints_per_user_max;
    if store::count(&mut *tx, caller.user_id).await? >= i64::from(most) {
        return Err(Error::new(Code::Conflict, format!("There are {most} endpoints already: delete one first.")));
    }
    let secret = Secret::random();
    store::insert(tx, caller.user_id, &settings, secret.bytes()).await?;
    Ok(Endpoint { secret: Some(secret.text()), ..shown(ctx, settings).await })
}

/// The URL as it is kept, if it leads where it may.
async fn checked_url(ctx: &Context, url: &str) -> Result<String> {
    let guard = ctx.outbound.guard();
    let refused = |refused: Refused| match refused {
        Refused::Busy => Error::new(Code::Overloaded, "Too many names are being looked up.").retry_after(Duration::from_secs(1)),
        Refused::Malformed | Refused::NotPublic | Refused::Unresolvable => Error::invalid("/url", refused.code(), refused.to_string()),
    };
    let target = guard.parse(url).map_err(refused)?;
    guard.resolve(&target).await.map_err(refused)?;
    Ok(target.url().as_str().to_owned())
}

pub async fn list(ctx: &Context, caller: &Caller, request: &PageRequest) -> Result<Page<Endpoint>> {
    caller.require(Scope::JobsRead)?;
    let rows = store::page(&ctx.pg, caller.owner_filter(), request).await?;
    let page = Page::from_rows(rows, request, |row| row.id.0);
    let names: Vec<String> = page.items.iter().map(|row| row.id.to_string()).collect();
    let breakers = breaker::look(ctx, &names).await.unwrap_or_else(|_| names.iter().map(|_| breaker::Breaker::CLOSED).collect());
    let items = page.items.into_iter().zip(breakers).map(|(row, breaker)| Endpoint { settings: row.into(), secret: None, breaker });
    Ok(Page { items: items.collect(), next_cursor: page.next_cursor })
}

pub async fn get(ctx: &Context, caller: &Caller, id: EndpointId) -> Result<Endpoint> {
    caller.require(Scope::JobsRead)?;
    let row = find(ctx, caller, id).await?;
    Ok(shown(ctx, row.into()).await)
}

/// Changes an endpoint; `allow` sees it as it is and may refuse.
pub async fn update(
    ctx: &Context,
    caller: &Caller,
    id: EndpointId,
    patch: &PatchEndpoint,
    allow: impl FnOnce(&EndpointSettings) -> Result<()>,
) -> Result<Endpoint> {
    caller.require(Scope::JobsWrite)?;
    patch.validate()?;
    let mut settings: EndpointSettings = find(ctx, caller, id).await?.into();
    allow(&settings)?;
    if let Some(url) = &patch.url {
        settings.url = checked_url(ctx, url).await?;
    }
    if let Some(headers) = &patch.headers {
        check_headers(headers, "/headers")?;
        settings.headers.clone_from(headers);
    }
    if let Some(name) = &patch.name {
        settings.name.clone_from(name);
    }
    settings.timeout_ms = milliseconds(patch.timeout_ms).unwrap_or(settings.timeout_ms);
    store::update(&ctx.pg, &settings).await?;
    if patch.url.is_some() {
        forget_breaker(ctx, id).await;
    }
    Ok(shown(ctx, settings).await)
}

/// Pauses an endpoint, or makes one active again that was paused or disabled; its breaker then is closed.
pub async fn set_state(ctx: &Context, caller: &Caller, id: EndpointId, state: EndpointState) -> Result<Endpoint> {
    caller.require(Scope::JobsWrite)?;
    let settings = EndpointSettings { state, ..find(ctx, caller, id).await?.into() };
    store::update(&ctx.pg, &settings).await?;
    if state == EndpointState::Active {
        forget_breaker(ctx, id).await;
    }
    Ok(shown(ctx, settings).await)
}

/// Jobs that were to go there are dead when their turn comes.
pub async fn delete(ctx: &Context, caller: &Caller, id: EndpointId) -> Result<()> {
    caller.require(Scope::JobsWrite)?;
    find(ctx, caller, id).await?;
    store::delete(&ctx.pg, id).await?;
    forget_breaker(ctx, id).await;
    Ok(())
}

/// Gives an endpoint a new secret, which the answer alone has; the old one signs too for a day.
pub async fn rotate(ctx: &Context, caller: &Caller, id: EndpointId) -> Result<Endpoint> {
    caller.require(Scope::JobsWrite)?;
    let row = find(ctx, caller, id).await?;
    let secret = Secret::random();
    store::rotate(&ctx.pg, id, secret.bytes(), ctx.clock.now() + ROTATION).await?;
    Ok(Endpoint { secret: Some(secret.text()), ..shown(ctx, row.into()).await })
}

/// Delivers a trial at once, past state and breaker.
pub async fn test(ctx: &Context, caller: &Caller, id: EndpointId) -> Result<Trial> {
    caller.require(Scope::JobsWrite)?;
    let row = find(ctx, caller, id).await?;
    let destination = Destination::of_endpoint(ctx, row, TargetMethod::Post);
    let body = serde_json::json!({"type": "test", "endpoint_id": id}).to_string();
    let message_id = format!("test_{}", uuid::Uuid::now_v7().simple());
    let began = std::time::Instant::now();
    let sent = deliver::send(ctx, &destination, &message_id, body.into_bytes()).await?;
    let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(match sent {
        Ok(answer) => Trial { status: Some(answer.status), duration_ms, body_excerpt: answer.excerpt },
        Err(error) => Trial { status: None, duration_ms, body_excerpt: error.to_string() },
    })
}

async fn find(ctx: &Context, caller: &Caller, id: EndpointId) -> Result<EndpointRow> {
    store::find(&ctx.pg, id, caller.owner_filter()).await?.ok_or_else(|| Error::not_found("endpoint"))
}

/// With its breaker, which is shown as closed while Redis is away.
async fn shown(ctx: &Context, settings: EndpointSettings) -> Endpoint {
    let breakers = breaker::look(ctx, &[settings.id.to_string()]).await.unwrap_or_default();
    Endpoint { settings, secret: None, breaker: breakers.into_iter().next().unwrap_or(breaker::Breaker::CLOSED) }
}

async fn forget_breaker(ctx: &Context, id: EndpointId) {
    if let Err(error) = breaker::reset(ctx, &id.to_string()).await {
        tracing::debug!(%error, "a breaker stays as it is until Redis answers");
    }
}
