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
    Code, Context, Scope,
    config::{Exposure, StorageUrl},
    pg,
    telemetry::{
        metrics::{FILES_FREE_BYTES, FILES_SIZE_BYTES},
        page::Page,
        process,
    },
};
use std::{
    future::Future,
    time::{Duration, Instant},
};
use tokio::time::timeout;
use utoipa::ToSchema;

/// How long a dependency may take before it counts as away.
const CHECK_TIMEOUT: Duration = Duration::from_millis(800);

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
    latency_ms: u64,
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
    let ctx = &state.ctx;
    let (postgres, mut redis, migrations) =
        futures_util::join!(check(true, pg::ping(&ctx.pg)), check(false, ctx.redis.ping()), check(true, check_migrations(ctx)));
    // Which of several servers is master now is worth knowing although all is well.
    redis.detail = redis.detail.or_else(|| ctx.redis.seen());
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

async fn check(critical: bool, probe: impl Future<Output = Result<(), shared::Error>>) -> Check {
    let started = Instant::now();
    let outcome = timeout(CHECK_TIMEOUT, probe).await;
    let latency_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let detail = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.detail.into_owned()),
        Err(_) => Some(format!("no answer within {} ms", CHECK_TIMEOUT.as_millis())),
    };
    Check { ok: detail.is_none(), critical, latency_ms, detail }
}

async fn check_migrations(ctx: &Context) -> Result<(), shared::Error> {
    match pg::pending_migrations(&ctx.pg).await? {
        0 => Ok(()),
        n_pending => Err(shared::Error::new(Code::DatabaseUnavailable, format!("{n_pending} migrations are pending"))),
    }
}

/// Metrics in the text format of Prometheus: for everyone, for operators or for nobody, as `METRICS` says.
#[utoipa::path(get, path = "/metrics", tag = "system", operation_id = "get_metrics", security((), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, description = "Metrics", body = String, content_type = "text/plain"),
        (status = 404, description = "`METRICS=off`", body = Problem<'static>, content_type = "application/problem+json")))]
pub async fn get_metrics(request: HttpRequest, state: Data<AppState>) -> ApiResult {
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
            let caller = gate::authenticate(state, request.headers()).await?;
            Ok(caller.require(Scope::QueuesAdmin)?)
        }
    }
}
