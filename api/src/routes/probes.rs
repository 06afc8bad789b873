//! Liveness, readiness and metrics: answered however busy the process is.

use crate::{
    edge::NotAProblem,
    error::{ApiError, ApiResult, Problem},
    gate,
    state::AppState,
};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use nix::sys::statvfs::statvfs;
use serde::Serialize;
use shared::{
    Code, Error, Scope,
    breaker::{Breaker, State},
    config::{Exposure, StorageUrl},
    telemetry::{
        metrics::{FILES_FREE_BYTES, FILES_SIZE_BYTES},
        page::Page,
        process,
    },
};
use std::time::Duration;
use tokio::time::timeout;
use utoipa::ToSchema;

/// Who may read the metrics at once. They pass by the limit on requests in flight, take milliseconds, and few are to read them.
pub const SCRAPES_MAX: usize = 2;

/// A process that has just begun asks its servers for the first time: whoever asks for its readiness waits so long for what they say.
const FIRST_PROBE_WITHIN: Duration = Duration::from_millis(1_100);

#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    #[schema(pattern = "^ok$", example = "ok")]
    status: &'static str,
}

/// One dependency as this process sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Check {
    ok: bool,
    /// Whether the process is unready without it.
    critical: bool,
    /// What the last probe took, which is made about every second.
    latency_ms: u64,
    /// Whether what needs the server fails at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    breaker: Option<State>,
    /// What is wrong; of Redis on several servers, when nothing is, which topology is seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    detail: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Checks {
    postgres: Check,
    redis: Check,
    migrations: Check,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReadinessStatus {
    Ready,
    /// Works without something that is not critical.
    Degraded,
    Draining,
    Unready,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    status: ReadinessStatus,
    checks: Checks,
}

/// Says that the process runs; looks at nothing else.
#[utoipa::path(get, path = "/healthz", tag = "system", operation_id = "get_health", responses((status = 200, description = "The process runs", body = Health)))]
pub async fn get_health() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(&b"{\"status\":\"ok\"}"[..])
}

/// Says whether requests should be sent here, and why not.
#[utoipa::path(get, path = "/readyz", tag = "system", operation_id = "get_readiness", responses(
    (status = 200, description = "Ready, perhaps degraded", body = Readiness),
    (status = 503, description = "Not ready, or stopping", body = Readiness),
))]
pub async fn get_readiness(state: Data<AppState>) -> HttpResponse {
    let health = &state.health;
    let (mut postgres, mut redis, wrong_migrations, filled) = futures_util::join!(
        check(true, &health.postgres),
        check(false, &health.redis),
        health.wrong_migrations(FIRST_PROBE_WITHIN),
        timeout(FIRST_PROBE_WITHIN, state.filling.ended())
    );
    if filled.is_err() && postgres.ok {
        (postgres.ok, postgres.detail) = (false, Some("connections are being opened".to_owned()));
    }
    let migrations = Check { ok: wrong_migrations.is_none(), critical: true, latency_ms: 0, breaker: None, detail: wrong_migrations };
    // Which of several servers is master now is worth knowing although all is well.
    redis.detail = redis.detail.or_else(|| state.ctx.redis.seen());
    let status = match (state.drain.has_begun(), postgres.ok && migrations.ok, redis.ok) {
        (true, ..) => ReadinessStatus::Draining,
        (false, false, _) => ReadinessStatus::Unready,
        (false, true, false) => ReadinessStatus::Degraded,
        (false, true, true) => ReadinessStatus::Ready,
    };
    let readiness = Readiness { status, checks: Checks { postgres, redis, migrations } };
    let mut builder = match status {
        ReadinessStatus::Ready | ReadinessStatus::Degraded => HttpResponse::Ok(),
        ReadinessStatus::Draining | ReadinessStatus::Unready => HttpResponse::ServiceUnavailable(),
    };
    let mut response = builder.json(readiness);
    response.extensions_mut().insert(NotAProblem);
    response
}

/// What the last probe of a server found, and how its breaker stands.
async fn check(critical: bool, breaker: &Breaker) -> Check {
    let finding = breaker.finding(FIRST_PROBE_WITHIN).await;
    let state = breaker.state();
    let (latency_ms, failure) = match finding {
        Some(finding) => (u64::try_from(finding.took.as_millis()).unwrap_or(u64::MAX), finding.failure),
        None => (0, Some("not asked yet".to_owned())),
    };
    let ok = breaker.is_well();
    Check { ok, critical, latency_ms, breaker: Some(state), detail: failure.filter(|_| !ok) }
}

/// Metrics in the text format of Prometheus: for everyone, for operators or for nobody, as `METRICS` says.
#[utoipa::path(get, path = "/metrics", tag = "system", operation_id = "get_metrics", security((), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, description = "Metrics", body = String, content_type = "text/plain"),
        (status = 404, description = "`METRICS=off`", body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn get_metrics(request: HttpRequest, state: Data<AppState>) -> ApiResult {
    let busy = |_| Error::new(Code::Overloaded, "Others read the metrics at the moment.").retry_after(Duration::from_secs(1));
    let _turn = state.scrapes.try_acquire().map_err(busy)?;
    let exposure = state.ctx.settings().metrics;
    require_exposure(&request, &state, exposure).await?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(render_metrics(&state)))
}

pub(crate) fn render_metrics(state: &AppState) -> String {
    state.metrics.run_upkeep();
    let mut page = Page::default();
    page.append(&state.metrics.render());
    process::tell(&mut page);
    tell_disk(&state.ctx.settings().storage_url, &mut page);
    state.overview.tell(&mut page);
    page.into_text()
}

/// The room of a store of files that is a folder.
fn tell_disk(storage_url: &StorageUrl, page: &mut Page) {
    let StorageUrl::Folder(folder) = storage_url else { return };
    // There is no folder before the first file.
    if let Some(disk) = folder.ancestors().find_map(|folder| statvfs(folder).ok()) {
        page.single(FILES_FREE_BYTES, disk.blocks_available() * disk.fragment_size());
        page.single(FILES_SIZE_BYTES, disk.blocks() * disk.fragment_size());
    }
}

/// Lets everyone in, operators only, or nobody, as the setting says.
pub(crate) async fn require_exposure(request: &HttpRequest, state: &AppState, exposure: Exposure) -> Result<(), ApiError> {
    match exposure {
        Exposure::Public => Ok(()),
        Exposure::Off => Err(ApiError::new(Code::NotFound, "There is nothing at this path.")),
        Exposure::Operator => {
            let caller = gate::authenticate(state, request).await?;
            Ok(caller.require(Scope::QueuesAdmin)?)
        }
    }
}
