//! What owners do with their endpoints; operators may with everybody's.

use super::{
    Endpoint, EndpointSettings, EndpointState, Headers,
    deliver::{self, Destination, Message},
    input::{NewEndpoint, PatchEndpoint, TIMEOUT_MS, TargetMethod, check_headers, milliseconds},
    masking,
    store::{self, EndpointRow},
};
use crate::{
    Caller, Code, Context, Error, Result, Scope,
    accounts::{
        Origin,
        audit::{self, Action, Deed, Subject},
    },
    ids::EndpointId,
    jobs::engine::hurry,
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

/// The endpoint that is asked for, if it may be. Its name is looked up, which may take seconds: no transaction waits for that.
pub async fn check(ctx: &Context, caller: &Caller, new: &NewEndpoint) -> Result<EndpointSettings> {
    caller.require(Scope::JobsWrite)?;
    new.validate()?;
    let headers = masking::unmask(&new.headers.clone().unwrap_or_default(), &Headers::new(), "/headers")?;
    check_headers(&headers, "/headers")?;
    Ok(EndpointSettings {
        id: EndpointId::new(),
        name: new.name.clone(),
        url: checked_url(ctx, &new.url).await?,
        headers,
        timeout_ms: milliseconds(new.timeout_ms).unwrap_or(TIMEOUT_MS),
        max_rate: new.max_rate,
        state: EndpointState::Active,
        created_at: ctx.clock.now(),
    })
}

/// Makes a checked endpoint in the caller's transaction. The answer alone has the secret.
pub async fn create(ctx: &Context, tx: &mut PgConnection, caller: &Caller, checked: EndpointSettings, origin: &Origin) -> Result<Endpoint> {
    let most = ctx.settings().endpoints_per_user_max;
    if store::count(&mut *tx, caller.user_id).await? >= i64::from(most) {
        return Err(Error::new(Code::Conflict, format!("There are {most} endpoints already: delete one first.")));
    }
    let secret = Secret::random();
    store::insert(&mut *tx, caller.user_id, &checked, secret.bytes()).await?;
    record(ctx, tx, caller, Action::EndpointCreated, &checked, origin).await?;
    Ok(Endpoint { settings: checked, secret: Some(secret.text()), breaker: breaker::Breaker::CLOSED })
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
    let rows = store::page(ctx.by_values(), caller.owner_filter(), request).await?;
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
    origin: &Origin,
) -> Result<Endpoint> {
    caller.require(Scope::JobsWrite)?;
    patch.validate()?;
    if let Some(headers) = &patch.headers {
        check_headers(headers, "/headers")?;
    }
    let url = match &patch.url {
        None => None,
        // Nobody learns what a name leads to by an endpoint that is not there; and no lock waits for a name.
        Some(url) => {
            find(ctx, caller, id).await?;
            Some(checked_url(ctx, url).await?)
        }
    };
    let mut tx = ctx.pg.begin().await?;
    let mut settings: EndpointSettings = lock(&mut tx, caller, id).await?.into();
    allow(&settings)?;
    let has_moved = url.is_some();
    if url.as_deref().is_some_and(|url| !masking::is_same_origin(url, &settings.url)) {
        masking::refuse_to_take_along(patch.headers.as_ref(), &settings.headers, "/headers")?;
    }
    let headers = patch.headers.as_ref().map(|new| masking::unmask(new, &settings.headers, "/headers")).transpose()?;
    settings.apply(patch, url, headers);
    store::update(&mut *tx, &settings).await?;
    record(ctx, &mut tx, caller, Action::EndpointChanged, &settings, origin).await?;
    tx.commit().await?;
    if has_moved {
        forget_breaker(ctx, id).await;
    }
    Ok(shown(ctx, settings).await)
}

impl EndpointSettings {
    fn apply(&mut self, patch: &PatchEndpoint, url: Option<String>, headers: Option<Headers>) {
        if let Some(url) = url {
            self.url = url;
        }
        if let Some(headers) = headers {
            self.headers = headers;
        }
        if let Some(name) = &patch.name {
            self.name.clone_from(name);
        }
        self.timeout_ms = milliseconds(patch.timeout_ms).unwrap_or(self.timeout_ms);
        if let Some(max_rate) = patch.max_rate {
            self.max_rate = Some(max_rate).filter(|rate| *rate > 0.0);
        }
    }
}

/// Pauses an endpoint.
pub async fn pause(ctx: &Context, caller: &Caller, id: EndpointId, origin: &Origin) -> Result<Endpoint> {
    Ok(set_state(ctx, caller, id, (EndpointState::Paused, Action::EndpointPaused), origin).await?.0)
}

/// Makes an endpoint active again that was paused or disabled; its breaker then is closed, and what waits for it is due. One that is active
/// has its breaker closed alone: whoever repeats this has nothing looked for.
pub async fn resume(ctx: &Context, caller: &Caller, id: EndpointId, origin: &Origin) -> Result<Endpoint> {
    let (endpoint, before) = set_state(ctx, caller, id, (EndpointState::Active, Action::EndpointResumed), origin).await?;
    forget_breaker(ctx, id).await;
    if before != EndpointState::Active
        && let Err(error) = hurry::hurry_endpoint(ctx, id).await
    {
        tracing::warn!(endpoint_id = %id, %error, "the jobs of an endpoint that is active again wait their time");
    }
    Ok(Endpoint { breaker: breaker::Breaker::CLOSED, ..endpoint })
}

/// The endpoint as it is then, and the state that it was in.
async fn set_state(
    ctx: &Context,
    caller: &Caller,
    id: EndpointId,
    (state, action): (EndpointState, Action),
    origin: &Origin,
) -> Result<(Endpoint, EndpointState)> {
    caller.require(Scope::JobsWrite)?;
    let mut tx = ctx.pg.begin().await?;
    let was: EndpointSettings = lock(&mut tx, caller, id).await?.into();
    let before = was.state;
    let settings = EndpointSettings { state, ..was };
    store::update(&mut *tx, &settings).await?;
    record(ctx, &mut tx, caller, action, &settings, origin).await?;
    tx.commit().await?;
    Ok((shown(ctx, settings).await, before))
}

/// Jobs that were to go there are dead when their turn comes.
pub async fn delete(ctx: &Context, caller: &Caller, id: EndpointId, origin: &Origin) -> Result<()> {
    caller.require(Scope::JobsWrite)?;
    let mut tx = ctx.pg.begin().await?;
    let settings = lock(&mut tx, caller, id).await?.into();
    store::delete(&mut *tx, id).await?;
    record(ctx, &mut tx, caller, Action::EndpointDeleted, &settings, origin).await?;
    tx.commit().await?;
    forget_breaker(ctx, id).await;
    Ok(())
}

/// Gives an endpoint a new secret, which the answer alone has; the old one signs too for a day.
pub async fn rotate(ctx: &Context, caller: &Caller, id: EndpointId, origin: &Origin) -> Result<Endpoint> {
    caller.require(Scope::JobsWrite)?;
    let mut tx = ctx.pg.begin().await?;
    let settings = lock(&mut tx, caller, id).await?.into();
    let secret = Secret::random();
    store::rotate(&mut *tx, id, secret.bytes(), ctx.clock.now() + ROTATION).await?;
    record(ctx, &mut tx, caller, Action::EndpointSecretRotated, &settings, origin).await?;
    tx.commit().await?;
    Ok(Endpoint { secret: Some(secret.text()), ..shown(ctx, settings).await })
}

/// Notes a change. Headers and URL may hold secrets of the receiver, and are not told.
async fn record(
    ctx: &Context,
    tx: &mut PgConnection,
    caller: &Caller,
    action: Action,
    settings: &EndpointSettings,
    origin: &Origin,
) -> Result<()> {
    let deed = Deed::by(caller, action, Subject::Endpoint(settings.id), origin).with(serde_json::json!({ "name": settings.name }));
    audit::record(tx, ctx.clock.now(), deed).await
}

/// Of one that said that it is gone; one that its owner has changed the URL of since is another.
pub(super) async fn disable(ctx: &Context, id: EndpointId, url: &str, origin: &Origin) -> Result<()> {
    let mut tx = ctx.pg.begin().await?;
    if store::disable(&mut *tx, id, url).await? {
        let deed = Deed::new(None, Action::EndpointDisabled, Subject::Endpoint(id), origin);
        audit::record(&mut *tx, ctx.clock.now(), deed).await?;
        tracing::info!(endpoint_id = %id, "an endpoint said that it is gone, and is disabled");
    }
    Ok(tx.commit().await?)
}

/// Delivers a trial at once, past state and breaker.
pub async fn test(ctx: &Context, caller: &Caller, id: EndpointId) -> Result<Trial> {
    caller.require(Scope::JobsWrite)?;
    let row = find(ctx, caller, id).await?;
    let destination = Destination::of_endpoint(ctx, row, TargetMethod::Post);
    let body = serde_json::json!({"type": "test", "endpoint_id": id}).to_string();
    let message_id = format!("test_{}", uuid::Uuid::now_v7().simple());
    let began = std::time::Instant::now();
    let message = Message { id: message_id, body: body.into_bytes(), callback: None, traceparent: None };
    let sent = deliver::send(ctx, &destination, message).await?;
    let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(match sent {
        Ok(answer) => Trial { status: Some(answer.status), duration_ms, body_excerpt: answer.excerpt },
        Err(error) => Trial { status: None, duration_ms, body_excerpt: error.to_string() },
    })
}

async fn find(ctx: &Context, caller: &Caller, id: EndpointId) -> Result<EndpointRow> {
    store::find(&ctx.pg, id, caller.owner_filter()).await?.ok_or_else(|| Error::not_found("endpoint"))
}

async fn lock(tx: &mut PgConnection, caller: &Caller, id: EndpointId) -> Result<EndpointRow> {
    store::lock(tx, id, caller.owner_filter()).await?.ok_or_else(|| Error::not_found("endpoint"))
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
