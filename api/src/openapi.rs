//! The document that describes every route, made from the handlers' own annotations, in OpenAPI 3.1 and down-converted to 3.0.

mod downgrade;
pub mod headers;
mod links;
mod problems;

use crate::{
    routes::{
        self, about, api_keys, audit, auth, batches, callbacks, channels, endpoints, files, jobs, jwks, leases, points, probes, queues,
        schedules, server_api, system, tracks, users, workers,
    },
    socket::upgrade,
};
use headers::Headers;
use links::Links;
use problems::Problems;
use std::sync::LazyLock;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as OpenApiDocument, PathItem, RefOr,
        path::{Operation, Parameter, ParameterIn, PathsMap},
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
    },
};

#[derive(OpenApi)]
#[openapi(
    info(title = "Millrace", description = "REST, realtime channels and background jobs over PostgreSQL and Redis. Every error is `application/problem+json` (RFC 9457); the list is in docs/PROBLEMS.md, and `GET` of a problem's `type` explains it. Every request may carry `X-Request-Id` (kept if it is well-formed) and `traceparent`; HEAD works wherever GET does."),
    paths(about::get_index, about::get_problem_type, probes::get_health, probes::get_readiness, probes::get_metrics, system::get_system_info, system::get_system_capacity,
        auth::register_user, auth::create_session, auth::refresh_session, auth::end_session, auth::get_me, auth::delete_me,
        auth::change_password, auth::forgot_password, auth::reset_password, auth::list_sessions, auth::revoke_session,
        api_keys::list_api_keys, api_keys::create_api_key, api_keys::revoke_api_key,
        users::list_users, users::get_user, users::change_user, audit::list_audit, jwks::get_public_keys,
        jobs::submit_job, jobs::bulk::submit_jobs, jobs::get_job, jobs::list_jobs, jobs::list_job_attempts, jobs::cancel_job, jobs::retry_job,
        jobs::delete_job, queues::list_queues, queues::get_queue, queues::update_queue, queues::delete_queue, queues::pause_queue, queues::resume_queue,
        queues::purge_queue, queues::list_dead_jobs, queues::delete_dead_jobs, queues::requeue_dead_jobs,
        batches::create_batch, batches::list_batches, batches::get_batch, batches::close_batch, batches::cancel_batch,
        endpoints::list_endpoints, endpoints::create_endpoint, endpoints::get_endpoint, endpoints::update_endpoint, endpoints::delete_endpoint,
        endpoints::test_endpoint, endpoints::rotate_endpoint_secret, endpoints::pause_endpoint, endpoints::resume_endpoint,
        workers::list_workers, workers::get_worker, workers::quiet_worker, workers::resume_worker, workers::stop_worker,
        callbacks::settle_callback,
        leases::open_worker_session, leases::lease_jobs, leases::settle_leases, leases::extend_leases,
        schedules::create_schedule, schedules::list_schedules, schedules::get_schedule, schedules::update_schedule,
        schedules::delete_schedule, schedules::pause_schedule, schedules::resume_schedule, schedules::trigger_schedule,
        schedules::list_schedule_occurrences,
        tracks::create_track, tracks::list_tracks, tracks::get_track, tracks::update_track, tracks::delete_track,
        tracks::list_points, tracks::get_latest_point, tracks::get_track_stats, points::create_points, points::create_track_points,
        points::get_point_stats, points::list_dead_points, points::delete_dead_points, points::requeue_dead_points,
        files::create_file, files::list_files, files::get_file, files::get_file_content, files::delete_file,
        channels::publications::create_publication, channels::publications::list_publications, channels::publications::list_archive, channels::publications::delete_publications,
        channels::get_presence, channels::get_presence_stats, channels::list_channels, channels::broadcasts::create_broadcast,
        channels::connections::close_connection, channels::connections::close_connections, system::send_system_message,
        server_api::call_server_api, upgrade::open_socket),
    components(schemas(crate::error::Problem<'_>, shared::Code)),
    modifiers(&Security, &Headers, &Problems, &Links)
)]
struct Document;

/// The two ways to show who one is.
struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut OpenApiDocument) {
        let components = document.components.get_or_insert_default();
        let bearer = Http::builder().scheme(HttpAuthScheme::Bearer).description(Some("An access token, or an API key.")).build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let key = ApiKeyValue::with_description("X-API-Key", "An API key, or an access token.");
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(key)));
    }
}

/// Every operation with its path.
fn operations(paths: &mut PathsMap<String, PathItem>) -> impl Iterator<Item = (&str, &mut Operation)> {
    paths.iter_mut().flat_map(|(path, item)| {
        let of_path = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        of_path.into_iter().filter_map(|operation| Some((path.as_str(), operation.as_mut()?)))
    })
}

/// Whether requests to the path take a token from a rate limit; the methods of one path never differ in it.
fn is_limited(path: &str) -> bool {
    let versioned = path.strip_prefix(routes::BASE);
    let entries = if versioned.is_some() { routes::versioned() } else { routes::root() };
    entries.iter().any(|entry| entry.path == versioned.unwrap_or(path) && entry.gate.class.is_some())
}

fn is_in_path(parameter: &RefOr<Parameter>) -> bool {
    matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Path)
}

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let mut text = Document::openapi().to_pretty_json().expect("the document has only text keys");
    text.push('\n');
    text
});

static DOCUMENT_3_0: LazyLock<String> = LazyLock::new(|| {
    let document = serde_json::from_str(&DOCUMENT).expect("we wrote it a moment ago");
    serde_json::to_string_pretty(&downgrade::to_3_0(document)).expect("it was JSON before")
});

/// OpenAPI 3.1; `docs/openapi.json` is this text.
pub fn document_json() -> &'static str {
    &DOCUMENT
}

pub fn document_3_0_json() -> &'static str {
    &DOCUMENT_3_0
}
