//! Who reaches what, over the whole list of routes: without credentials, with each scope alone, in each role, and with
//! the ids of another user. A new route is in these tables by itself; one with a new kind of id asks for its line.

use crate::{
    auth::{credentials, register, register_admin, token},
    files::upload,
    support::{TestApp, send},
};
use api::{
    gate::Access,
    openapi,
    routes::{self, Entry},
};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use shared::Scope;
use uuid::Uuid;

/// The request of an entry, with its documented example as the body; `ids` fills the path.
fn request(app: &TestApp, entry: &Entry, ids: &Ids) -> RequestBuilder {
    let method = Method::from_bytes(entry.method.as_str().as_bytes()).unwrap();
    let request = app.request(method, &format!("{}{}", routes::BASE, ids.fill(entry.path)));
    match example(entry) {
        Some(body) => request.json(&body),
        None => request,
    }
}

fn example(entry: &Entry) -> Option<Value> {
    let document: Value = serde_json::from_str(openapi::document_json()).unwrap();
    let operation = &document["paths"][format!("{}{}", routes::BASE, entry.path)][entry.method.as_str().to_lowercase()];
    let name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].as_str()?;
    Some(document.pointer(&name[1..]).unwrap()["example"].clone())
}

/// What stands in the paths' variable segments.
struct Ids {
    user: String,
    session: String,
    api_key: String,
    job: String,
    batch: String,
    schedule: String,
    endpoint: String,
    track: String,
    file: String,
}

impl Ids {
    /// Ids of nothing.
    fn unknown() -> Self {
        let id = || Uuid::now_v7().to_string();
        Self { user: id(), session: id(), api_key: id(), job: id(), batch: id(), schedule: id(), endpoint: id(), track: id(), file: id() }
    }

    fn fill(&self, path: &str) -> String {
        let id = match path.split('/').nth(1).unwrap() {
            _ if !path.contains('{') => return path.to_owned(),
            "auth" => &self.session,
            "api-keys" => &self.api_key,
            "users" => &self.user,
            "jobs" => &self.job,
            "batches" => &self.batch,
            "schedules" => &self.schedule,
            "endpoints" => &self.endpoint,
            "tracks" => &self.track,
            "files" => &self.file,
            "callbacks" => return path.replace("{token}", "no-such-token"),
            "channels" => return path.replace("{channel}", "chat:lobby"),
            "connections" => return path.replace("{client}", "no-such-client"),
            "queues" => return path.replace("{queue}", "no-such-queue"),
            "workers" => return path.replace("{id}", &Uuid::now_v7().to_string()),
            noun => panic!("say in `Ids` what id a path of `{noun}` takes"),
        };
        path.replace("{id}", id)
    }
}

async fn status_of(request: RequestBuilder) -> StatusCode {
    request.send().await.unwrap().status()
}

/// Routes that would end the very session that goes through the list, or ask for its password.
fn spares_the_caller(entry: &Entry) -> bool {
    !matches!((entry.method.as_str(), entry.path), (_, "/auth/logout" | "/auth/password") | ("DELETE", "/auth/me"))
}

fn is_refused(status: StatusCode) -> bool {
    status == StatusCode::FORBIDDEN || status == StatusCode::UNAUTHORIZED
}

#[tokio::test]
async fn without_credentials_only_public_routes_answer() {
    let app = TestApp::start_with(&[("RATE_LIMITS", "off")]).await;
    for entry in routes::versioned().iter().filter(|entry| entry.gate.access != Access::Public) {
        let at = format!("{} {}", entry.method, entry.path);
        assert_eq!(status_of(request(&app, entry, &Ids::unknown())).await, 401, "{at}");
        let forged = request(&app, entry, &Ids::unknown()).bearer_auth("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.");
        assert_eq!(status_of(forged).await, 401, "{at}");
    }
}

#[tokio::test]
async fn at_the_root_too_only_public_routes_answer_without_credentials() {
    let app = TestApp::start_with(&[("RATE_LIMITS", "off"), ("DOCS", "operator"), ("METRICS", "operator")]).await;
    let user = register(&app, "ada@example.org").await;
    for entry in routes::root() {
        let path = entry.path.replace("{method}", "info").replace("{file:.*}", "index.html");
        let method = Method::from_bytes(entry.method.as_str().as_bytes()).unwrap();
        let anonymous = status_of(app.request(method.clone(), &path)).await;
        let as_user = status_of(app.request(method, &path).bearer_auth(token(&user))).await;
        let is_operators = matches!(entry.path, "/metrics" | "/docs" | "/docs/{file:.*}") || entry.path.starts_with("/api-docs/");
        match entry.gate.access {
            Access::Public if is_operators => assert_eq!((anonymous, as_user), (StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN), "{path}"),
            Access::Public => assert!(!is_refused(anonymous), "{path}: {anonymous}"),
            Access::SignedIn | Access::Session | Access::Backend | Access::Scoped(_) | Access::Operator(_) => {
                assert_eq!(anonymous, 401, "{path}");
                assert!(is_refused(as_user) || entry.gate.access == Access::Backend, "{path}: {as_user}");
            }
        }
    }
}

#[tokio::test]
async fn a_key_with_one_scope_reaches_the_routes_of_that_scope_alone() {
    let app = TestApp::start_with(&[("RATE_LIMITS", "off"), ("API_KEYS_MAX", "50")]).await;
    let admin = register_admin(&app).await;
    for scope in Scope::ALL {
        let body = json!({"name": scope.as_str(), "scopes": [scope]});
        let key = send(app.post("/api/v1/api-keys").bearer_auth(token(&admin)).json(&body)).await.1;
        for entry in routes::versioned() {
            let may = match entry.gate.access {
                Access::Public => continue,
                Access::SignedIn | Access::Backend => true,
                Access::Session => false,
                Access::Scoped(needed) | Access::Operator(needed) => needed == *scope,
            };
            let status = status_of(request(&app, &entry, &Ids::unknown()).bearer_auth(key["key"].as_str().unwrap())).await;
            assert_eq!(!is_refused(status), may, "{} {} with {scope}: {status}", entry.method, entry.path);
            assert!(!status.is_server_error(), "{} {}: {status}", entry.method, entry.path);
        }
    }
}

#[tokio::test]
async fn a_session_reaches_what_its_role_allows() {
    let app = TestApp::start_with(&[("RATE_LIMITS", "off")]).await;
    let admin = register_admin(&app).await;
    for role in [shared::Role::User, shared::Role::Operator, shared::Role::Admin] {
        let email = format!("an-{}@example.org", role.as_str());
        let user = register(&app, &email).await["user"]["id"].as_str().unwrap().to_owned();
        let promote = app.request(Method::PATCH, &format!("/api/v1/users/{user}")).bearer_auth(token(&admin)).json(&json!({"role": role}));
        assert_eq!(send(promote).await.0, 200);
        let session = send(app.post("/api/v1/auth/login").json(&credentials(&email))).await.1;
        for entry in routes::versioned().into_iter().filter(spares_the_caller) {
            let may = match entry.gate.access {
                Access::Public => continue,
                Access::SignedIn | Access::Session | Access::Backend => true,
                Access::Scoped(needed) => role.scopes().contains(needed),
                Access::Operator(needed) => role.scopes().contains(needed) && role >= shared::Role::Operator,
            };
            let status = status_of(request(&app, &entry, &Ids::unknown()).bearer_auth(token(&session))).await;
            assert_eq!(!is_refused(status), may, "{} {} as {role:?}: {status}", entry.method, entry.path);
        }
    }
}

/// Everything of one user, and their session.
async fn belongings(app: &TestApp, email: &str) -> (Value, Ids) {
    let session = register(app, email).await;
    let signed_in = |request: RequestBuilder| request.bearer_auth(token(&session));
    let job = send(signed_in(app.post("/api/v1/jobs")).json(&json!({"kind": "debug.echo", "payload": email}))).await.1;
    let key = send(signed_in(app.post("/api/v1/api-keys")).json(&json!({"name": email, "scopes": ["jobs:read"]}))).await.1;
    let sessions = send(signed_in(app.get("/api/v1/auth/sessions"))).await.1;
    let schedule = json!({"name": email, "cron": "30 2 * * *", "timezone": "Europe/Berlin", "kind": "debug.echo"});
    let schedule = send(signed_in(app.post("/api/v1/schedules")).json(&schedule)).await.1;
    let endpoint = send(signed_in(app.post("/api/v1/endpoints")).json(&json!({"name": email, "url": "https://1.1.1.1/hook"}))).await.1;
    let batch = send(signed_in(app.post("/api/v1/batches")).json(&json!({"name": email}))).await.1;
    let track = send(signed_in(app.post("/api/v1/tracks")).json(&json!({"name": email}))).await.1;
    let (_, file) = send(signed_in(upload(app.post("/api/v1/files"), &format!("{email}.txt"), email))).await;
    let id = |value: &Value| value["id"].as_str().unwrap_or_else(|| panic!("no id in {value}")).to_owned();
    let ids = Ids {
        user: id(&session["user"]),
        session: id(&sessions["items"][0]),
        api_key: id(&key),
        job: id(&job),
        batch: id(&batch),
        schedule: id(&schedule),
        endpoint: id(&endpoint),
        track: id(&track),
        file: id(&file),
    };
    (session, ids)
}

#[tokio::test]
async fn nobody_reaches_what_is_anothers_by_its_id() {
    let app = TestApp::start_with(&[("RATE_LIMITS", "off")]).await;
    let (ada, ids) = belongings(&app, "ada@example.org").await;
    let (eve, _) = belongings(&app, "eve@example.org").await;
    for entry in routes::versioned().iter().filter(|entry| entry.path.contains("{id}")) {
        let status = status_of(request(&app, entry, &ids).bearer_auth(token(&eve))).await;
        let expected = match entry.gate.access {
            Access::Scoped(scope) if !shared::Role::User.scopes().contains(scope) => 403,
            Access::Operator(_) => 403,
            Access::Public | Access::SignedIn | Access::Session | Access::Backend | Access::Scoped(_) => 404,
        };
        assert_eq!(status, expected, "{} {}", entry.method, entry.path);
    }
    let still_there = async |path: &str| send(app.get(path).bearer_auth(token(&ada))).await.1;
    assert_eq!(still_there(&format!("/api/v1/jobs/{}", ids.job)).await["state"], "queued");
    assert_eq!(still_there("/api/v1/auth/sessions").await["items"][0]["id"], ids.session);
    assert_eq!(still_there("/api/v1/api-keys").await["items"][0]["id"], ids.api_key);
}

#[tokio::test]
async fn nothing_of_anothers_is_reached_by_naming_it_in_a_body() {
    let app = TestApp::start_with(&[("RATE_LIMITS", "off")]).await;
    let (ada, ids) = belongings(&app, "ada@example.org").await;
    let (eve, _) = belongings(&app, "eve@example.org").await;
    let bodies = [
        ("/jobs", json!({"kind": "debug.echo", "batch_id": ids.batch})),
        ("/jobs", json!({"kind": "debug.echo", "depends_on": [ids.job]})),
        ("/jobs", json!({"kind": "http.request", "target": {"type": "http", "endpoint_id": ids.endpoint}})),
        ("/jobs", json!({"kind": "files.inspect", "payload": {"file_id": ids.file}})),
        ("/jobs", json!({"kind": "tracks.import", "payload": {"file_id": ids.file}})),
        ("/jobs", json!({"kind": "tracks.report", "payload": {"last_buckets": 2, "track_ids": [ids.track]}})),
        ("/batches", json!({"name": "x", "on_complete": {"kind": "files.inspect", "payload": {"file_id": ids.file}}})),
        (
            "/schedules",
            json!({"name": "x", "cron": "30 2 * * *", "kind": "http.request", "job": {"target": {"type": "http", "endpoint_id": ids.endpoint}}}),
        ),
    ];
    for (path, body) in bodies {
        let as_eve = app.post(&format!("/api/v1{path}")).bearer_auth(token(&eve)).json(&body);
        let (status, answer) = send(as_eve).await;
        assert!((400..500).contains(&status.as_u16()), "{path} {body}: {status} {answer}");
        let as_ada = app.post(&format!("/api/v1{path}")).bearer_auth(token(&ada)).json(&body);
        let (status, answer) = send(as_ada).await;
        assert!(status.is_success(), "the body is good, for its owner: {path} {body}: {status} {answer}");
    }
    let points = json!({"points": [{"track_id": ids.track, "recorded_at": "2026-11-21T10:00:00Z", "lat": 1, "lon": 1}]});
    let vouched = app.post("/api/v1/points?durability=postgres").bearer_auth(token(&eve)).json(&points);
    let (_, answer) = send(vouched).await;
    assert_eq!(answer["rejected"][0]["problem"]["errors"][0]["code"], "unknown_track", "{answer}");
}

#[tokio::test]
async fn lists_hold_nothing_of_anothers() {
    let app = TestApp::start_with(&[("RATE_LIMITS", "off")]).await;
    let (_, ids) = belongings(&app, "ada@example.org").await;
    let (eve, _) = belongings(&app, "eve@example.org").await;
    for entry in routes::versioned().iter().filter(|entry| entry.method.as_str() == "GET" && !entry.path.contains('{')) {
        let text = request(&app, entry, &ids).bearer_auth(token(&eve)).send().await.unwrap().text().await.unwrap();
        let of_ada = [&ids.user, &ids.session, &ids.api_key, &ids.job, &ids.batch, &ids.schedule, &ids.endpoint, &ids.track, &ids.file];
        for anothers in of_ada.into_iter().map(String::as_str).chain(["ada@example.org"]) {
            assert!(!text.contains(anothers), "{}: {text}", entry.path);
        }
    }
}

#[tokio::test]
async fn an_idempotency_key_is_nothing_to_another_user() {
    let app = TestApp::start().await;
    let (ada, eve) = (register(&app, "ada@example.org").await, register(&app, "eve@example.org").await);
    let submit = |session: &Value| {
        app.post("/api/v1/jobs").bearer_auth(token(session)).header("idempotency-key", "one").json(&json!({"kind": "debug.echo"}))
    };
    let (first, second) = (send(submit(&ada)).await.1, send(submit(&eve)).await.1);
    assert_ne!(first["id"], second["id"]);
    assert_eq!(second["owner_id"], eve["user"]["id"]);
}

#[tokio::test]
async fn no_body_assigns_more_than_its_fields() {
    let app = TestApp::start_with(&[("RATE_LIMITS", "off")]).await;
    let admin = register_admin(&app).await;
    for entry in routes::versioned() {
        // The one judges its items, and the other looks for its track before it reads.
        let Some(body) = example(&entry).filter(|_| !["/jobs/bulk", "/tracks/{id}/points"].contains(&entry.path)) else { continue };
        for field in ["id", "owner_id", "user_id", "created_at", "is_admin", "scope", "__proto__"] {
            let mut body = body.clone();
            body[field] = json!("0197a1b2-0000-7000-8000-000000000000");
            let request = request(&app, &entry, &Ids::unknown()).bearer_auth(token(&admin)).json(&body);
            assert_eq!(status_of(request).await, 400, "{} {} with {field}", entry.method, entry.path);
        }
    }
}
