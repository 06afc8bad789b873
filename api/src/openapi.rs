//! The document that describes every route, made from the handlers' own annotations, in OpenAPI 3.1 and down-converted to 3.0.

mod downgrade;

use crate::routes::{api_keys, audit, auth, jobs, jwks, probes, queues, system, users, workers};
use std::sync::LazyLock;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        ContentBuilder, RefOr, ResponseBuilder,
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
    },
};

#[derive(OpenApi)]
#[openapi(
    info(title = "Millrace", description = "REST, realtime channels and background jobs over PostgreSQL and Redis. Every error is `application/problem+json` (RFC 9457); the list is in docs/PROBLEMS.md."),
    paths(probes::get_health, probes::get_readiness, probes::get_metrics, system::get_system_info,
        auth::register_user, auth::create_session, auth::refresh_session, auth::end_session, auth::get_me, auth::delete_me,
        auth::change_password, auth::forgot_password, auth::reset_password, auth::list_sessions, auth::revoke_session,
        api_keys::list_api_keys, api_keys::create_api_key, api_keys::revoke_api_key,
        users::list_users, users::get_user, users::change_user, audit::list_audit, jwks::get_public_keys,
        jobs::submit_job, jobs::bulk::submit_jobs, jobs::get_job, jobs::list_jobs, jobs::list_job_attempts, jobs::cancel_job, jobs::retry_job,
        jobs::delete_job, queues::list_queues, queues::get_queue, queues::update_queue, queues::pause_queue, queues::resume_queue,
        queues::purge_queue, workers::list_workers, workers::get_worker),
    components(schemas(crate::error::Problem<'_>)),
    modifiers(&Security, &Problems)
)]
struct Document;

/// The two ways to show who one is.
struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key"))));
    }
}

/// Problems that any operation may answer with, so that no handler has to list them.
struct Problems;

impl Modify for Problems {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        for (path, item) in &mut document.paths.paths {
            let is_probe = !path.starts_with("/api/v1") && !path.starts_with("/system");
            let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
            for operation in operations.into_iter().flatten() {
                let is_guarded = operation.security.is_some();
                let takes_body = operation.request_body.is_some();
                let mut common: Vec<(&str, &str)> = Vec::new();
                if !is_probe {
                    common.extend([
                        ("400", "The query, a header or the body is malformed"),
                        ("422", "A rule is broken"),
                        ("429", "Too many requests"),
                        ("503", "Overloaded, draining, or a server is away"),
                        ("504", "The deadline passed"),
                    ]);
                }
                if is_guarded {
                    common.extend([("401", "Credentials are missing or not valid"), ("403", "The credentials do not allow this")]);
                }
                if takes_body {
                    common.extend([("408", "The body came too slowly"), ("413", "The body is too large"), ("415", "Not JSON")]);
                }
                if path.contains('{') {
                    common.push(("404", "There is no such thing, or it is not yours"));
                }
                for (status, description) in common {
                    operation.responses.responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(problem(description)));
                }
            }
        }
    }
}

fn problem(description: &str) -> utoipa::openapi::Response {
    let schema = utoipa::openapi::Ref::from_schema_name("Problem");
    ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", ContentBuilder::new().schema(Some(schema)).build())
        .build()
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
