//! The gate of one route: who calls (sign-in), whether they may, whether they may now (rate limit), and for how long
//! (deadline). It also times the route and turns a panic of its handler into that request's 500.
//!
//! It stands before the extractors, so 401, 403 and 429 are decided before a byte of the body is parsed.

mod revoked;

pub(crate) use self::revoked::require_unrevoked;
use crate::{edge::RequestScope, error::ApiError, extract::wait_of, state::AppState};
use actix_web::{
    Error, HttpMessage, HttpRequest,
    body::BoxBody,
    dev::{Service, ServiceRequest, ServiceResponse, Transform},
    http::{
        Method, StatusCode,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    web::Data,
};
use futures_util::{FutureExt, future::LocalBoxFuture};
use metrics::Histogram;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use shared::{
    Caller, Code, Error as DomainError, Result, Role, Scope,
    accounts::Proof,
    jobs::remote,
    limits::{Class, Principal, Verdict},
    pg,
    telemetry::metrics::HTTP_DURATION,
    turns::Turn,
};
use std::{
    any::Any,
    cell::RefCell,
    future::{Ready, ready},
    panic::AssertUnwindSafe,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone, signed in or not.
    Public,
    /// Any valid credentials.
    SignedIn,
    /// A signed-in person, not an API key.
    Session,
    /// Credentials with this scope.
    Scoped(Scope),
    /// The same, of an operator or admin.
    Operator(Scope),
    /// The key of a backend (`CHANNEL_API_KEY`), or any valid credentials.
    Backend,
}

/// Routes that answer from memory or Redis, although others like them need PostgreSQL.
const DO_WITHOUT_POSTGRES: [&str; 4] = ["/.well-known/jwks.json", "/tracks/{id}/latest", "/system/info", "/system/send"];
/// A route that answers the same whatever comes of it, and without asking PostgreSQL where no mail can be sent.
const TELLS_NOTHING: &str = "/auth/password/forgot";
/// Those that may be asked to submit to a queue whose jobs live in Redis: only the operation knows.
const SUBMITS: [&str; 2] = ["/jobs", "/jobs/bulk"];
/// The route that takes `Prefer: wait`, when it is posted to.
const WAITS: &str = "/jobs";

/// Those whose reading has turns of its own, of which a user has one: who waits for it would hold turns that others' reads want.
const HAVE_TURNS: [&str; 2] = ["/points/stats", "/tracks/{id}/stats"];

/// What a route asks of a request before its handler sees it.
#[derive(Debug, Clone, Copy)]
pub struct Gate {
    /// `None`: not rate-limited.
    pub class: Option<Class>,
    pub access: Access,
}

impl Gate {
    /// Whether a route with this gate can do nothing without PostgreSQL. Channels, leases and what comes in as points live in Redis.
    fn needs_postgres(self) -> bool {
        let lives_in_redis = matches!(
            self.access,
            Access::Backend
                | Access::Scoped(Scope::ChannelsPublish | Scope::ChannelsRead | Scope::Workers)
                | Access::Operator(Scope::ChannelsPublish | Scope::ChannelsRead)
        );
        self.class.is_some_and(|class| class != Class::Ingest && class != Class::Work) && !lives_in_redis
    }

    async fn authenticate(self, state: &AppState, request: &ServiceRequest) -> Result<Option<Proof>> {
        if self.access == Access::Public {
            return Ok(None);
        }
        if self.access == Access::Backend && is_trusted_backend(state, request.headers())? {
            request.extensions_mut().insert(TrustedBackend);
            return Ok(None);
        }
        let proof = prove(state, request.request()).await?;
        let caller = proof.caller;
        match self.access {
            Access::Public | Access::SignedIn | Access::Backend => {}
            Access::Session => drop(caller.require_session()?),
            Access::Scoped(scope) => caller.require(scope)?,
            Access::Operator(scope) => caller.require(scope).and_then(|()| caller.require_role(Role::Operator))?,
        }
        Ok(Some(proof))
    }

    async fn limit(self, state: &AppState, caller: Option<Caller>, request: &ServiceRequest) -> Option<Verdict> {
        if request.extensions().contains::<TrustedBackend>() {
            return None;
        }
        let principal = caller.map_or_else(
            || Principal::Address(RequestScope::from_request(request.request()).address),
            |caller| Principal::User(caller.user_id),
        );
        state.limiter.check(&state.ctx, self.class?, principal).await
    }
}

/// Whose credentials a request carries.
pub(crate) async fn authenticate(state: &AppState, request: &HttpRequest) -> Result<Caller> {
    Ok(prove(state, request).await?.caller)
}

async fn prove(state: &AppState, request: &HttpRequest) -> Result<Proof> {
    match credentials(request.headers())? {
        Some(credentials) => state.accounts.prove(credentials, RequestScope::from_request(request).address).await,
        None => Err(DomainError::new(Code::Unauthenticated, "Send `Authorization: Bearer <access token or API key>`, or `X-API-Key`.")),
    }
}

/// Marks a request that carries the key of a backend, which is trusted with every channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TrustedBackend;

fn is_trusted_backend(state: &AppState, headers: &HeaderMap) -> Result<bool> {
    let settings = state.ctx.settings();
    let (Some(ours), Some(sent)) = (&settings.channel_api_key, credentials(headers)?) else { return Ok(false) };
    // Hashes, so that the time it takes tells nothing of the key.
    Ok(Sha256::digest(ours.expose_secret()) == Sha256::digest(sent))
}

/// The token or key that a request carries; two different ones are refused rather than one preferred.
fn credentials(headers: &HeaderMap) -> Result<Option<&str>> {
    let invalid = |detail| DomainError::new(Code::InvalidToken, detail);
    let key_header = HeaderName::from_static("x-api-key");
    if [&header::AUTHORIZATION, &key_header].into_iter().any(|name| headers.get_all(name).nth(1).is_some()) {
        return Err(invalid("Credentials were sent twice."));
    }
    let bearer = match headers.get(header::AUTHORIZATION) {
        None => None,
        Some(value) => {
            let value = value.to_str().map_err(|_| invalid("The Authorization header is not text."))?;
            let (scheme, token) = value.trim().split_once(' ').unwrap_or((value, ""));
            // The second is how older libraries of the server API send their key.
            if !["bearer", "apikey"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) || token.trim().is_empty() {
                return Err(invalid("The Authorization header must read `Bearer <token>`."));
            }
            Some(token.trim())
        }
    };
    let key = headers.get(key_header).map(|value| value.to_str().map_err(|_| invalid("The X-API-Key header is not text."))).transpose()?;
    match (bearer, key) {
        (Some(bearer), Some(key)) if bearer != key.trim() => Err(invalid("Authorization and X-API-Key name different credentials.")),
        (Some(token), _) | (None, Some(token)) => Ok(Some(token.trim())),
        (None, None) => Ok(None),
    }
}

/// A gate before one route; `path` is the route's template, for metrics.
#[derive(Debug)]
pub struct GateOf {
    pub gate: Gate,
    pub path: &'static str,
}

impl<S> Transform<S, ServiceRequest> for GateOf
where
    S: Service<ServiceRequest, Response = ServiceResponse<BoxBody>, Error = Error> + 'static,
{
    type Response = ServiceResponse<BoxBody>;
    type Error = Error;
    type Transform = GateService<S>;
    type InitError = ();
    type Future = Ready<std::result::Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(GateService(Rc::new(Inner {
            service,
            gate: self.gate,
            path: self.path,
            needs_postgres: self.gate.needs_postgres() && !DO_WITHOUT_POSTGRES.contains(&self.path),
            durations: RefCell::default(),
        }))))
    }
}

#[derive(Debug)]
pub struct GateService<S>(Rc<Inner<S>>);

#[derive(Debug)]
struct Inner<S> {
    service: S,
    gate: Gate,
    path: &'static str,
    needs_postgres: bool,
    durations: RefCell<Vec<(u16, Histogram)>>,
}

impl<S> Service<ServiceRequest> for GateService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<BoxBody>, Error = Error> + 'static,
{
    type Response = ServiceResponse<BoxBody>;
    type Error = Error;
    type Future = LocalBoxFuture<'static, std::result::Result<Self::Response, Error>>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<std::result::Result<(), Error>> {
        self.0.service.poll_ready(cx)
    }

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let (service, gate) = (Rc::clone(&self.0), self.0.gate);
        Box::pin(async move {
            let started = Instant::now();
            let state = request.app_data::<Data<AppState>>().expect("the server registers its state").clone();
            let needs_postgres = service.needs_postgres(&request);
            if needs_postgres && state.health.postgres.is_open() {
                return Ok(service.observed(request.error_response(ApiError::from(pg::away())), started));
            }
            let proof = match gate.authenticate(&state, &request).await {
                Ok(proof) => proof,
                Err(error) => return Ok(service.observed(request.error_response(ApiError::from(error)), started)),
            };
            let verdict = gate.limit(&state, proof.map(|proof| proof.caller), &request).await;
            let mut response = match verdict.as_ref().and_then(Verdict::refusal) {
                Some(refusal) => request.error_response(ApiError::from(refusal)),
                None => {
                    request.extensions_mut().insert(gate);
                    if let Some(proof) = proof {
                        request.extensions_mut().insert(proof);
                    }
                    let response = match service.turn(&state, proof.filter(|_| needs_postgres)).await {
                        Ok(_turn) => service.run(request, &state, needs_postgres).await?,
                        Err(error) => request.error_response(ApiError::from(error)),
                    };
                    if needs_postgres && response.status().is_success() && service.path != TELLS_NOTHING {
                        state.health.postgres.answered();
                    }
                    response
                }
            };
            // What another limit refuses is not what these tell of.
            let is_of_another =
                response.status() == StatusCode::TOO_MANY_REQUESTS && verdict.is_some_and(|verdict| verdict.retry_after.is_none());
            if let Some(verdict) = verdict.filter(|_| !is_of_another) {
                add_limit_headers(response.headers_mut(), &verdict);
            }
            Ok(service.observed(response, started))
        })
    }
}

impl<S> Inner<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<BoxBody>, Error = Error> + 'static,
{
    /// Whether nothing can come of a request without PostgreSQL.
    fn needs_postgres(&self, request: &ServiceRequest) -> bool {
        let may_be_volatile = request.method() == Method::POST && SUBMITS.contains(&self.path);
        // Answers to keys are kept in PostgreSQL.
        let asks_for_it = self.gate.class == Some(Class::Ingest) && request.query_string().contains("durability=postgres");
        asks_for_it || self.needs_postgres && (!may_be_volatile || request.headers().contains_key("idempotency-key"))
    }

    /// Held while something is read from PostgreSQL, so that the slow reads of one user leave connections to others. What changes something is
    /// short, or has turns of its own. Waits as long as for a connection, and in flight as for a connection: the limit bounds how many do.
    async fn turn(&self, state: &AppState, proof: Option<Proof>) -> Result<Option<Turn>> {
        let takes_turn = self.gate.class == Some(Class::Read) && !HAVE_TURNS.contains(&self.path);
        let Some(proof) = proof.filter(|_| takes_turn) else { return Ok(None) };
        let patience = Duration::from_millis(state.ctx.settings().db_acquire_timeout_ms);
        state.ctx.reads.within(proof.caller.user_id, patience, &()).await.map(Some)
    }

    /// The handler within its deadline; its panic is its own.
    async fn run(
        &self,
        request: ServiceRequest,
        state: &AppState,
        needs_postgres: bool,
    ) -> std::result::Result<ServiceResponse<BoxBody>, Error> {
        let http_request = request.request().clone();
        let deadline = match self.gate.class {
            Some(Class::Upload) => Duration::from_secs(state.ctx.settings().upload_timeout_s),
            Some(_) | None => Duration::from_millis(state.ctx.settings().request_timeout_ms),
        };
        // A caller that asks to wait where that can be asked gets the wait on top.
        let waits = match self.gate.class {
            Some(Class::Work) => remote::lease::WAIT_MAX,
            Some(_) if self.path == WAITS && *http_request.method() == Method::POST => {
                wait_of(&http_request).ok().flatten().unwrap_or_default()
            }
            Some(_) | None => Duration::ZERO,
        };
        if matches!(self.gate.class, Some(Class::Upload | Class::Ingest)) {
            RequestScope::from_request(&http_request).goes_at_the_clients_pace();
        }
        let handled = timeout(deadline + waits, AssertUnwindSafe(self.service.call(request)).catch_unwind());
        // What has begun would wait for its deadline together with a server that is away. Who waits for a job has it by then; and an upload
        // under way asks PostgreSQL again when all of it is here, which a restart does not last as long as.
        let handled = if needs_postgres && waits.is_zero() && self.gate.class != Some(Class::Upload) {
            match state.health.postgres.unless_open(handled).await {
                Some(handled) => handled,
                None => return Ok(ServiceResponse::from_err(ApiError::from(pg::away()), http_request)),
            }
        } else {
            handled.await
        };
        let error = match handled {
            Ok(Ok(response)) => return response,
            Ok(Err(panic)) => DomainError::internal(format!("the handler panicked: {}", panic_text(&*panic))),
            Err(_) => DomainError::new(Code::DeadlineExceeded, format!("The request was not done within {} ms.", deadline.as_millis()))
                .retry_after(Duration::from_secs(1)),
        };
        Ok(ServiceResponse::from_err(ApiError::from(error), http_request))
    }

    /// Records how long the route took; each status has its own series, looked up once per worker.
    fn observed(&self, response: ServiceResponse<BoxBody>, started: Instant) -> ServiceResponse<BoxBody> {
        let status = response.status().as_u16();
        let mut durations = self.durations.borrow_mut();
        let idx = durations.iter().position(|(of, _)| *of == status).unwrap_or_else(|| {
            let (route, method) = (self.path, response.request().method().as_str().to_owned());
            durations
                .push((status, metrics::histogram!(HTTP_DURATION, "route" => route, "method" => method, "status" => status.to_string())));
            durations.len() - 1
        });
        durations[idx].1.record(started.elapsed());
        drop(durations);
        response
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

/// `RateLimit-Policy`, `RateLimit` and their older names.
pub(crate) fn add_limit_headers(headers: &mut HeaderMap, verdict: &Verdict) {
    for (name, value) in verdict.headers() {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(&value).expect("numbers and names are header text"));
    }
}

/// The gate a request came through; extractors take the body's limit from it.
pub(crate) fn gate_of(request: &HttpRequest) -> Option<Gate> {
    request.extensions().get::<Gate>().copied()
}
