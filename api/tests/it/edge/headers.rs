//! What every answer says to browsers, whoever asked and however it went.

use crate::{
    auth::{credentials, register, token},
    support::TestApp,
};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::json;

const PROTECTED: [(&str, &str); 3] =
    [("x-content-type-options", "nosniff"), ("x-frame-options", "DENY"), ("referrer-policy", "no-referrer")];
/// What would tell an attacker where to begin.
const TALKATIVE: [&str; 4] = ["server", "x-powered-by", "via", "x-runtime"];

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map(|value| value.to_str().expect("our headers are text")).unwrap_or_default()
}

async fn answers_to(app: &TestApp) -> Vec<(u16, RequestBuilder)> {
    let session = register(app, "ada@example.org").await;
    let me = || app.get("/api/v1/auth/me").bearer_auth(token(&session));
    let tag = me().send().await.unwrap().headers()["etag"].clone();
    let json =
        |text: &'static str| app.post("/api/v1/jobs").bearer_auth(token(&session)).header("content-type", "application/json").body(text);
    vec![
        (200, app.get("/healthz")),
        (200, app.get("/readyz")),
        (200, app.get("/metrics")),
        (200, app.get("/.well-known/jwks.json")),
        (200, app.get("/api-docs/openapi.json")),
        (307, app.get("/docs")),
        (200, app.get("/docs/")),
        (200, app.get("/docs/swagger-ui-bundle.js")),
        (200, app.get("/examples/chat")),
        (200, app.get("/examples/live")),
        (200, me()),
        (304, me().header("if-none-match", tag)),
        (202, json(r#"{"kind":"debug.echo"}"#)),
        (400, json("{")),
        (400, json(r#"{"kind":"debug.echo","nope":1}"#)),
        (401, app.get("/api/v1/jobs")),
        (401, app.post("/api/v1/auth/login").json(&credentials("eve@example.org"))),
        (403, app.get("/api/v1/users").bearer_auth(token(&session))),
        (404, app.get("/nope")),
        (404, app.get("/docs/nope")),
        (405, app.request(Method::DELETE, "/healthz")),
        (413, json("x").header("content-length", "999999999")),
        (415, app.post("/api/v1/jobs").bearer_auth(token(&session)).body("x")),
        (422, json(r#"{"kind":"no.such.kind"}"#)),
        (400, app.get("/connection/websocket")),
        (200, app.request(Method::HEAD, "/healthz")),
    ]
}

#[tokio::test]
async fn every_answer_is_of_no_use_to_a_page_that_was_tricked_into_showing_it() {
    let app = TestApp::start_with(&[("RATE_LIMITS", "off")]).await;
    for (status, request) in answers_to(&app).await {
        let request = request.build().unwrap();
        let at = format!("{} {}", request.method(), request.url().path());
        let response = app.client.execute(request).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{at}");
        for (name, value) in PROTECTED {
            assert_eq!(header(&response, name), value, "{at} {status}: {name}");
        }
        let policy = header(&response, "content-security-policy");
        for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"] {
            assert!(policy.contains(part), "{at} {status}: {policy}");
        }
        assert!(!policy.contains("script-src") || !policy.contains("script-src 'unsafe-inline'"), "{at}: {policy}");
        for name in TALKATIVE {
            assert!(!response.headers().contains_key(name), "{at} {status} shows {name}");
        }
        if status >= 400 {
            assert_eq!(header(&response, "cache-control"), "no-store", "{at} {status}");
        }
    }
}

#[tokio::test]
async fn what_is_an_accounts_is_kept_by_no_cache() {
    let app = TestApp::start().await;
    let session = register(&app, "ada@example.org").await;
    let refresh = app.post("/api/v1/auth/refresh").json(&json!({"refresh_token": session["refresh_token"]}));
    let key = app.post("/api/v1/api-keys").bearer_auth(token(&session)).json(&json!({"name": "k", "scopes": ["jobs:read"]}));
    let login = app.post("/api/v1/auth/login").json(&credentials("ada@example.org"));
    for request in [refresh, key, login, app.get("/api/v1/jobs").bearer_auth(token(&session))] {
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{}", response.status());
        assert_eq!(header(&response, "cache-control"), "no-store");
    }
}
