//! The one list of routes: method, path, rate class, who may call, handler. Beneath it, how the list becomes a service.
//!
//! To add an endpoint: a handler with its `#[utoipa::path]` in the noun's file, one line here, one in `openapi.rs`; a
//! test holds the two lists together.

pub mod about;
pub mod api_keys;
pub mod audit;
pub mod auth;
pub mod batches;
pub mod callbacks;
pub mod channels;
pub mod docs;
pub mod endpoints;
pub mod examples;
pub mod files;
pub mod jobs;
pub mod jwks;
pub mod leases;
pub mod points;
pub mod probes;
pub mod queues;
pub mod schedules;
pub mod server_api;
pub mod system;
pub mod tracks;
pub mod users;
pub mod workers;

use crate::{
    gate::{Access, Gate, GateOf},
    socket::upgrade,
};
use actix_web::{
    Route, guard,
    http::Method,
    web::{self, ServiceConfig},
};
use shared::{Scope, limits::Class};

/// Where versioned routes live.
pub const BASE: &str = "/api/v1";

/// One route as data.
#[derive(Debug)]
pub struct Entry {
    pub method: Method,
    pub path: &'static str,
    pub gate: Gate,
    route: fn() -> Route,
}

macro_rules! routes {
    ($($method:ident $path:literal $class:ident $access:expr => $handler:path;)*) => {
        [$(Entry {
            method: Method::$method,
            path: $path,
            gate: Gate { class: routes!(@class $class), access: $access },
            route: || Route::new().to($handler),
        },)*]
    };
    (@class NoLimit) => { None };
    (@class $class:ident) => { Some(Class::$class) };
}

/// Routes below [`BASE`]; those asked most come first, because the router goes through them in order.
#[expect(clippy::too_many_lines, reason = "one list on one screen, and nothing but lines of it")]
pub fn versioned() -> Vec<Entry> {
    use Access::{Operator, Public, Scoped, Session, SignedIn};
    routes! {
        POST "/jobs" Write Scoped(Scope::JobsWrite) => jobs::submit_job;
        GET "/jobs" Read Scoped(Scope::JobsRead) => jobs::list_jobs;
        POST "/jobs/bulk" Bulk Scoped(Scope::JobsWrite) => jobs::bulk::submit_jobs;
        GET "/jobs/{id}" Read Scoped(Scope::JobsRead) => jobs::get_job;
        DELETE "/jobs/{id}" Write Scoped(Scope::JobsWrite) => jobs::delete_job;
        GET "/jobs/{id}/attempts" Read Scoped(Scope::JobsRead) => jobs::list_job_attempts;
        POST "/jobs/{id}/cancel" Write Scoped(Scope::JobsWrite) => jobs::cancel_job;
        POST "/jobs/{id}/retry" Write Scoped(Scope::JobsWrite) => jobs::retry_job;
        POST "/batches" Bulk Scoped(Scope::JobsWrite) => batches::create_batch;
        GET "/batches" Read Scoped(Scope::JobsRead) => batches::list_batches;
        GET "/batches/{id}" Read Scoped(Scope::JobsRead) => batches::get_batch;
        POST "/batches/{id}/close" Write Scoped(Scope::JobsWrite) => batches::close_batch;
        POST "/batches/{id}/cancel" Write Scoped(Scope::JobsWrite) => batches::cancel_batch;
        POST "/points" Ingest Scoped(Scope::TracksWrite) => points::create_points;
        POST "/tracks/{id}/points" Ingest Scoped(Scope::TracksWrite) => points::create_track_points;
        GET "/tracks/{id}/points" Read Scoped(Scope::TracksRead) => tracks::list_points;
        GET "/tracks/{id}/latest" Read Scoped(Scope::TracksRead) => tracks::get_latest_point;
        GET "/tracks/{id}/stats" Read Scoped(Scope::TracksRead) => tracks::get_track_stats;
        POST "/leases" Work Scoped(Scope::JobsWork) => leases::lease_jobs;
        POST "/leases/settle" Work Scoped(Scope::JobsWork) => leases::settle_leases;
        POST "/leases/heartbeat" Work Scoped(Scope::JobsWork) => leases::extend_leases;
        POST "/worker-sessions" Work Scoped(Scope::JobsWork) => leases::open_worker_session;
        GET "/endpoints" Read Scoped(Scope::JobsRead) => endpoints::list_endpoints;
        POST "/endpoints" Write Scoped(Scope::JobsWrite) => endpoints::create_endpoint;
        GET "/endpoints/{id}" Read Scoped(Scope::JobsRead) => endpoints::get_endpoint;
        PATCH "/endpoints/{id}" Write Scoped(Scope::JobsWrite) => endpoints::update_endpoint;
        DELETE "/endpoints/{id}" Write Scoped(Scope::JobsWrite) => endpoints::delete_endpoint;
        POST "/endpoints/{id}/test" Write Scoped(Scope::JobsWrite) => endpoints::test_endpoint;
        POST "/endpoints/{id}/rotate-secret" Write Scoped(Scope::JobsWrite) => endpoints::rotate_endpoint_secret;
        POST "/endpoints/{id}/pause" Write Scoped(Scope::JobsWrite) => endpoints::pause_endpoint;
        POST "/endpoints/{id}/resume" Write Scoped(Scope::JobsWrite) => endpoints::resume_endpoint;
        POST "/callbacks/{token}" Write Public => callbacks::settle_callback;
        POST "/channels/{channel}/publications" Write Scoped(Scope::ChannelsPublish) => channels::publications::create_publication;
        GET "/channels/{channel}/publications" Read Scoped(Scope::ChannelsRead) => channels::publications::list_publications;
        GET "/channels/{channel}/archive" Read Scoped(Scope::ChannelsRead) => channels::publications::list_archive;
        DELETE "/channels/{channel}/publications" Write Operator(Scope::ChannelsPublish) => channels::publications::delete_publications;
        GET "/channels/{channel}/presence" Read Scoped(Scope::ChannelsRead) => channels::get_presence;
        GET "/channels/{channel}/presence-stats" Read Scoped(Scope::ChannelsRead) => channels::get_presence_stats;
        POST "/broadcasts" Bulk Scoped(Scope::ChannelsPublish) => channels::broadcasts::create_broadcast;
        GET "/channels" Read Operator(Scope::ChannelsRead) => channels::list_channels;
        POST "/connections/{client}/disconnect" Write Operator(Scope::ChannelsPublish) => channels::connections::close_connection;
        POST "/users/{id}/disconnect" Write Operator(Scope::ChannelsPublish) => channels::connections::close_connections;
        POST "/auth/register" LoginAddress Public => auth::register_user;
        POST "/auth/login" LoginAddress Public => auth::create_session;
        POST "/auth/refresh" Write Public => auth::refresh_session;
        POST "/auth/logout" Write Session => auth::end_session;
        GET "/auth/me" Read SignedIn => auth::get_me;
        DELETE "/auth/me" Write Session => auth::delete_me;
        POST "/auth/password" Write Session => auth::change_password;
        POST "/auth/password/forgot" LoginAddress Public => auth::forgot_password;
        POST "/auth/password/reset" LoginAddress Public => auth::reset_password;
        GET "/auth/sessions" Read Session => auth::list_sessions;
        DELETE "/auth/sessions/{id}" Write Session => auth::revoke_session;
        GET "/api-keys" Read Session => api_keys::list_api_keys;
        POST "/api-keys" Write Session => api_keys::create_api_key;
        DELETE "/api-keys/{id}" Write Session => api_keys::revoke_api_key;
        GET "/users" Read Scoped(Scope::Admin) => users::list_users;
        GET "/users/{id}" Read Scoped(Scope::Admin) => users::get_user;
        PATCH "/users/{id}" Write Scoped(Scope::Admin) => users::change_user;
        GET "/audit" Read Scoped(Scope::Admin) => audit::list_audit;
        GET "/queues" Read Scoped(Scope::JobsRead) => queues::list_queues;
        GET "/queues/{queue}" Read Scoped(Scope::JobsRead) => queues::get_queue;
        DELETE "/queues/{queue}" Write Scoped(Scope::QueuesAdmin) => queues::delete_queue;
        PATCH "/queues/{queue}" Write Scoped(Scope::QueuesAdmin) => queues::update_queue;
        POST "/queues/{queue}/pause" Write Scoped(Scope::QueuesAdmin) => queues::pause_queue;
        POST "/queues/{queue}/resume" Write Scoped(Scope::QueuesAdmin) => queues::resume_queue;
        POST "/queues/{queue}/purge" Write Scoped(Scope::QueuesAdmin) => queues::purge_queue;
        GET "/queues/{queue}/dead" Read Scoped(Scope::QueuesAdmin) => queues::list_dead_jobs;
        DELETE "/queues/{queue}/dead" Write Scoped(Scope::QueuesAdmin) => queues::delete_dead_jobs;
        POST "/queues/{queue}/dead/requeue" Write Scoped(Scope::QueuesAdmin) => queues::requeue_dead_jobs;
        POST "/schedules" Write Scoped(Scope::JobsWrite) => schedules::create_schedule;
        GET "/schedules" Read Scoped(Scope::JobsRead) => schedules::list_schedules;
        GET "/schedules/{id}" Read Scoped(Scope::JobsRead) => schedules::get_schedule;
        PATCH "/schedules/{id}" Write Scoped(Scope::JobsWrite) => schedules::update_schedule;
        DELETE "/schedules/{id}" Write Scoped(Scope::JobsWrite) => schedules::delete_schedule;
        POST "/schedules/{id}/pause" Write Scoped(Scope::JobsWrite) => schedules::pause_schedule;
        POST "/schedules/{id}/resume" Write Scoped(Scope::JobsWrite) => schedules::resume_schedule;
        POST "/schedules/{id}/trigger" Write Scoped(Scope::JobsWrite) => schedules::trigger_schedule;
        GET "/schedules/{id}/next" Read Scoped(Scope::JobsRead) => schedules::list_schedule_occurrences;
        POST "/tracks" Write Scoped(Scope::TracksWrite) => tracks::create_track;
        GET "/tracks" Read Scoped(Scope::TracksRead) => tracks::list_tracks;
        GET "/tracks/{id}" Read Scoped(Scope::TracksRead) => tracks::get_track;
        PATCH "/tracks/{id}" Write Scoped(Scope::TracksWrite) => tracks::update_track;
        DELETE "/tracks/{id}" Write Scoped(Scope::TracksWrite) => tracks::delete_track;
        GET "/points/stats" Read Scoped(Scope::TracksRead) => points::get_point_stats;
        GET "/points/dead" Read Scoped(Scope::TracksRead) => points::list_dead_points;
        DELETE "/points/dead" Write Scoped(Scope::TracksWrite) => points::delete_dead_points;
        POST "/points/dead/requeue" Write Scoped(Scope::TracksWrite) => points::requeue_dead_points;
        POST "/files" Upload Scoped(Scope::FilesWrite) => files::create_file;
        GET "/files" Read Scoped(Scope::FilesRead) => files::list_files;
        GET "/files/{id}" Read Scoped(Scope::FilesRead) => files::get_file;
        GET "/files/{id}/content" Read Scoped(Scope::FilesRead) => files::get_file_content;
        DELETE "/files/{id}" Write Scoped(Scope::FilesWrite) => files::delete_file;
        GET "/workers" Read Scoped(Scope::Workers) => workers::list_workers;
        GET "/workers/{id}" Read Scoped(Scope::Workers) => workers::get_worker;
        POST "/workers/{id}/quiet" Write Scoped(Scope::Workers) => workers::quiet_worker;
        POST "/workers/{id}/resume" Write Scoped(Scope::Workers) => workers::resume_worker;
        POST "/workers/{id}/stop" Write Scoped(Scope::Workers) => workers::stop_worker;
        GET "/system/info" Read SignedIn => system::get_system_info;
        GET "/system/capacity" Read Scoped(Scope::Workers) => system::get_system_capacity;
        POST "/system/send" Write Scoped(Scope::Admin) => system::send_system_message;
    }
    .into()
}

/// Routes at the root.
pub fn root() -> Vec<Entry> {
    use Access::{Backend, Public, Scoped};
    routes! {
        GET "/healthz" NoLimit Public => probes::get_health;
        GET "/health" NoLimit Public => probes::get_health;
        GET "/api/health" NoLimit Public => probes::get_health;
        GET "/readyz" NoLimit Public => probes::get_readiness;
        GET "/.well-known/jwks.json" Read Public => jwks::get_public_keys;
        POST "/api/{method}" Write Backend => server_api::call_server_api;
        POST "/system/send" Write Scoped(Scope::Admin) => system::send_system_message;
        GET "/metrics" NoLimit Public => probes::get_metrics;
        GET "/" NoLimit Public => about::get_index;
        GET "/problems/{code}" NoLimit Public => about::get_problem_type;
        GET "/api-docs/openapi.json" NoLimit Public => docs::get_openapi;
        GET "/api-docs/openapi-3.0.json" NoLimit Public => docs::get_openapi_3_0;
        GET "/docs" NoLimit Public => docs::get_docs;
        GET "/docs/{file:.*}" NoLimit Public => docs::get_docs_file;
        GET "/examples/chat" NoLimit Public => examples::get_chat;
        GET "/examples/live" NoLimit Public => examples::get_live;
        GET "/connection/websocket" NoLimit Public => upgrade::open_socket;
        GET "/ws" NoLimit Public => upgrade::open_socket;
    }
    .into()
}

pub fn configure(config: &mut ServiceConfig) {
    register(config, root());
    config.service(web::scope(BASE).configure(|scope| register(scope, versioned())));
}

/// Groups the entries of one path into one resource, which then answers other methods with 405 and `Allow`.
fn register(config: &mut ServiceConfig, entries: Vec<Entry>) {
    let mut rest = entries;
    while let Some(first) = rest.first() {
        let path = first.path;
        let (of_path, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|entry| entry.path == path);
        rest = others;
        let mut resource = web::resource(path);
        for entry in of_path {
            let gate_of = || GateOf { gate: entry.gate, path: entry.path };
            if entry.method == Method::GET {
                // HEAD works wherever GET does; the server leaves the body out.
                resource = resource.route((entry.route)().guard(guard::Head()).wrap(gate_of()));
            }
            resource = resource.route((entry.route)().method(entry.method.clone()).wrap(gate_of()));
        }
        config.service(resource);
    }
}
