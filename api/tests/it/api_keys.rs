//! `/api-keys`.

use crate::{
    auth::{register, token},
    support::{TestApp, problem_of, send, send_for_problem},
};
use reqwest::Method;
use serde_json::{Value, json};

async fn create(app: &TestApp, session: &Value) -> Value {
    let body = json!({"name": "import", "scopes": ["jobs:read"]});
    let (status, key) = send(app.post("/api/v1/api-keys").bearer_auth(token(session)).json(&body)).await;
    assert_eq!(status, 201, "{key}");
    key
}

#[tokio::test]
async fn a_key_signs_in_by_either_header_and_does_not_manage_keys() {
    let app = TestApp::start().await;
    let session = register(&app, "ada@example.org").await;
    let key = create(&app, &session).await;
    let text = key["key"].as_str().unwrap();
    assert_eq!(send(app.get("/api/v1/auth/me").header("x-api-key", text)).await.1, session["user"]);
    assert_eq!(send(app.get("/api/v1/auth/me").bearer_auth(text)).await.0, 200);
    assert_eq!(send_for_problem(app.get("/api/v1/api-keys").bearer_auth(text)).await, (403, "forbidden".to_owned()));
    assert_eq!(send_for_problem(app.get("/api/v1/users").bearer_auth(text)).await, (403, "insufficient_scope".to_owned()));
}

#[tokio::test]
async fn who_sends_keys_that_there_are_not_waits_and_keys_that_are_known_go_on() {
    let app = TestApp::start_with(&[("RATE_LIMIT_LOGIN", "3/h"), ("METRICS", "operator")]).await;
    let session = register(&app, "ada@example.org").await;
    let (known, fresh) = (create(&app, &session).await, create(&app, &session).await);
    let with_key = |key: &str| app.get("/api/v1/auth/me").header("x-api-key", key);
    let text = known["key"].as_str().unwrap();
    assert_eq!(send(with_key(text)).await.0, 200);
    let guessed = format!("{}{}", &text[..text.len() - 4], "AAAA");
    for _ in 0..4 {
        assert_eq!(send_for_problem(with_key(&guessed)).await, (401, "invalid_token".to_owned()));
    }
    for key in [guessed.as_str(), fresh["key"].as_str().unwrap()] {
        let refused = with_key(key).send().await.unwrap();
        assert!(refused.headers().contains_key("retry-after"));
        assert_eq!(problem_of(refused).await, (429, "rate_limited".to_owned()));
    }
    assert_eq!(send_for_problem(app.get("/metrics").header("x-api-key", &guessed)).await.0, 429, "on every route");
    assert_eq!(send(with_key(text)).await.0, 200);
    assert_eq!(send(app.get("/api/v1/auth/me").bearer_auth(token(&session))).await.0, 200);
}

#[tokio::test]
async fn a_revoked_key_is_out_and_out_of_the_list() {
    let app = TestApp::start().await;
    let session = register(&app, "ada@example.org").await;
    let key = create(&app, &session).await;
    let path = format!("/api/v1/api-keys/{}", key["id"].as_str().unwrap());
    let eve = register(&app, "eve@example.org").await;
    let revoke = |session: &Value| app.request(Method::DELETE, &path).bearer_auth(token(session));
    assert_eq!(send(revoke(&eve)).await.0, 404);
    assert_eq!(send(revoke(&session)).await.0, 204);
    assert_eq!(send(app.get("/api/v1/auth/me").header("x-api-key", key["key"].as_str().unwrap())).await.0, 401);
    let list = send(app.get("/api/v1/api-keys").bearer_auth(token(&session))).await.1;
    assert_eq!(list, json!({"items": [], "next_cursor": null}));
}

#[tokio::test]
async fn a_repeated_creation_gets_the_record_without_the_secret() {
    let app = TestApp::start().await;
    let session = register(&app, "ada@example.org").await;
    let create = |name: &str| {
        let body = json!({"name": name, "scopes": ["jobs:read"]});
        app.post("/api/v1/api-keys").bearer_auth(token(&session)).header("idempotency-key", "one").json(&body)
    };
    let first = send(create("import")).await.1;
    let second = create("import").send().await.unwrap();
    assert_eq!((second.status().as_u16(), &second.headers()["idempotency-replayed"]), (201, &"true".parse().unwrap()));
    let second: Value = second.json().await.unwrap();
    assert_eq!((&second["id"], second.get("key")), (&first["id"], None));
    assert_eq!(send_for_problem(create("export")).await, (422, "idempotency_key_reused".to_owned()));
    let list = send(app.get("/api/v1/api-keys").bearer_auth(token(&session))).await.1;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn scopes_beyond_the_role_are_refused() {
    let app = TestApp::start().await;
    let session = register(&app, "ada@example.org").await;
    let body = json!({"name": "import", "scopes": ["jobs:read", "admin"]});
    let request = app.post("/api/v1/api-keys").bearer_auth(token(&session)).json(&body);
    assert_eq!(send_for_problem(request).await, (403, "insufficient_scope".to_owned()));
}
