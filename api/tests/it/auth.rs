//! `/auth`: sign-up to sign-out over HTTP, and every forged credential.

use crate::support::{TestApp, problem_of, send, send_for_problem};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery";

pub(crate) fn credentials(email: &str) -> Value {
    json!({"email": email, "password": PASSWORD})
}

/// A session of a new user.
pub(crate) async fn register(app: &TestApp, email: &str) -> Value {
    let (status, session) = send(app.post("/api/v1/auth/register").json(&credentials(email))).await;
    assert_eq!(status, 201, "{session}");
    session
}

/// A session of a new administrator.
pub(crate) async fn register_admin(app: &TestApp) -> Value {
    let email = "admin@example.org";
    shared::accounts::command_line::create_admin(&app.state.accounts, email, &PASSWORD.into()).await.unwrap();
    send(app.post("/api/v1/auth/login").json(&credentials(email))).await.1
}

pub(crate) fn token(session: &Value) -> &str {
    session["access_token"].as_str().unwrap()
}

#[tokio::test]
async fn a_session_has_the_documented_shape_and_no_cache_keeps_it() {
    let app = TestApp::start().await;
    let response = app.post("/api/v1/auth/register").json(&credentials("Ada@example.org")).send().await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["cache-control"]), (201, &"no-store".parse().unwrap()));
    let session: Value = response.json().await.unwrap();
    insta::assert_json_snapshot!(session, {
        ".access_token" => "<token>", ".refresh_token" => "<token>", ".user.id" => "<id>", ".user.created_at" => "<time>",
    }, @r#"
    {
      "access_token": "<token>",
      "expires_in": 900,
      "refresh_token": "<token>",
      "token_type": "Bearer",
      "user": {
        "created_at": "<time>",
        "disabled": false,
        "display_name": null,
        "email": "ada@example.org",
        "id": "<id>",
        "role": "user"
      }
    }
    "#);
}

#[tokio::test]
async fn sign_up_refresh_and_sign_out() {
    let app = TestApp::start().await;
    let session = register(&app, "ada@example.org").await;
    let me = send(app.get("/api/v1/auth/me").bearer_auth(token(&session))).await;
    assert_eq!((me.0.as_u16(), &me.1), (200, &session["user"]));
    let (status, next) = send(app.post("/api/v1/auth/refresh").json(&json!({"refresh_token": session["refresh_token"]}))).await;
    assert_eq!(status, 200);
    let logout = app.post("/api/v1/auth/logout").bearer_auth(token(&next)).json(&json!({"refresh_token": next["refresh_token"]}));
    assert_eq!(send(logout).await, (204.try_into().unwrap(), Value::Null));
    for dead in [&session, &next] {
        let problem = send_for_problem(app.get("/api/v1/auth/me").bearer_auth(token(dead))).await;
        assert_eq!(problem, (401, "invalid_token".to_owned()));
    }
}

#[tokio::test]
async fn bad_bodies_have_their_documented_problems() {
    let app = TestApp::start().await;
    for (body, status, code) in [
        ("{", 400, "invalid_json"),
        (r#"{"email":"a@b.org","password":"12345678x!","role":"admin"}"#, 400, "invalid_json"),
        (r#"{"email":7,"password":"12345678x!"}"#, 400, "invalid_json"),
        (r#"["a@b.org","12345678x!",null]"#, 400, "invalid_json"),
        (r#"{"email":"a@b.org"}"#, 400, "invalid_json"),
        (r#"{"email":"a@b.org","password":"short"}"#, 422, "validation_failed"),
        (r#"{"email":"a@b.org","password":"password123"}"#, 422, "validation_failed"),
        (r#"{"email":"nobody","password":"12345678x!"}"#, 422, "validation_failed"),
        (r#"{"email":"a@b.org","password":"12345678\u0000"}"#, 422, "invalid_text"),
        (r#"{"email":"a@b.org","password":"12345678\ud800"}"#, 422, "invalid_text"),
    ] {
        let request = app.post("/api/v1/auth/register").header("content-type", "application/json").body(body);
        assert_eq!(send_for_problem(request).await, (status, code.to_owned()), "{body}");
    }
    let deep = app.post("/api/v1/auth/register").header("content-type", "application/json").body("[".repeat(10_000));
    assert_eq!(send_for_problem(deep).await.0, 400);
}

#[tokio::test]
async fn forged_and_stale_credentials_are_all_401() {
    let app = TestApp::start().await;
    let session = register(&app, "ada@example.org").await;
    let claims = token(&session).split('.').nth(1).unwrap();
    let none = format!("{}.{claims}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#));
    let long = "x".repeat(20 << 10);
    for credential in [&none, &long, session["refresh_token"].as_str().unwrap(), "mr_x_y", "a.b.c"] {
        let response = app.get("/api/v1/auth/me").bearer_auth(credential).send().await.unwrap();
        assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"millrace\"");
        assert_eq!(problem_of(response).await, (401, "invalid_token".to_owned()), "{credential:.40}");
    }
    assert_eq!(send_for_problem(app.get("/api/v1/auth/me")).await, (401, "unauthenticated".to_owned()));
    app.state.ctx.clock.advance(time::Duration::minutes(15));
    let stale = send_for_problem(app.get("/api/v1/auth/me").bearer_auth(token(&session))).await;
    assert_eq!(stale, (401, "token_expired".to_owned()));
}

#[tokio::test]
async fn an_access_token_does_not_refresh() {
    let app = TestApp::start().await;
    let session = register(&app, "ada@example.org").await;
    let request = app.post("/api/v1/auth/refresh").json(&json!({"refresh_token": session["access_token"]}));
    assert_eq!(send_for_problem(request).await, (401, "invalid_refresh_token".to_owned()));
}

#[tokio::test]
async fn wrong_passwords_and_unknown_addresses_look_the_same() {
    let app = TestApp::start().await;
    register(&app, "ada@example.org").await;
    for email in ["ada@example.org", "eve@example.org"] {
        let request = app.post("/api/v1/auth/login").json(&json!({"email": email, "password": "not my password"}));
        assert_eq!(send_for_problem(request).await, (401, "invalid_credentials".to_owned()));
    }
}

#[tokio::test]
async fn a_hundred_sign_ins_at_once_are_each_answered_and_probes_too() {
    let overrides = [("RATE_LIMITS", "off"), ("PASSWORD_HASHES_MAX", "1"), ("PASSWORD_QUEUE_MAX", "8")];
    let app = TestApp::start_with(&overrides).await;
    register(&app, "ada@example.org").await;
    let tries = (0..100).map(|_| send(app.post("/api/v1/auth/login").json(&credentials("ada@example.org"))));
    let probe = send(app.get("/healthz"));
    let (answers, probe) = futures_util::future::join(futures_util::future::join_all(tries), probe).await;
    assert_eq!(probe.0, 200);
    let n_of = |status: u16| answers.iter().filter(|(answer, _)| *answer == status).count();
    assert!(n_of(200) >= 9 && n_of(503) > 0, "{} signed in, {} sent away", n_of(200), n_of(503));
    assert_eq!(n_of(200) + n_of(503), 100);
}

#[tokio::test]
async fn sign_ins_are_throttled_per_account_and_per_address() {
    let app = TestApp::start_with(&[("RATE_LIMIT_LOGIN", "2/h"), ("RATE_LIMIT_LOGIN_ADDRESS", "4/h")]).await;
    let attempt = |email: &str| app.post("/api/v1/auth/login").json(&json!({"email": email, "password": "not my password"}));
    let limits = |response: &reqwest::Response| response.headers().contains_key("ratelimit");
    for (expected, tells_limits) in [(401, true), (401, true), (429, false)] {
        let response = attempt("ada@example.org").send().await.unwrap();
        assert_eq!((response.status().as_u16(), limits(&response)), (expected, tells_limits), "those of the address are not the account's");
    }
    assert_eq!(send(attempt("eve@example.org")).await.0, 401);
    let refused = attempt("zoe@example.org").send().await.unwrap();
    assert!(refused.headers().contains_key("retry-after") && limits(&refused));
    assert_eq!(problem_of(refused).await, (429, "rate_limited".to_owned()));
}

#[tokio::test]
async fn changing_the_password_keeps_this_session_alone() {
    let app = TestApp::start().await;
    let here = register(&app, "ada@example.org").await;
    let there = send(app.post("/api/v1/auth/login").json(&credentials("ada@example.org"))).await.1;
    let body = json!({"current_password": PASSWORD, "new_password": "staple correct horse"});
    let (status, fresh) = send(app.post("/api/v1/auth/password").bearer_auth(token(&here)).json(&body)).await;
    assert_eq!(status, 200);
    assert_eq!(send(app.get("/api/v1/auth/me").bearer_auth(token(&there))).await.0, 401);
    let (_, list) = send(app.get("/api/v1/auth/sessions").bearer_auth(token(&fresh))).await;
    assert_eq!((list["items"].as_array().unwrap().len(), &list["items"][0]["current"]), (1, &json!(true)));
}

#[tokio::test]
async fn a_forgotten_password_is_answered_the_same_for_everyone() {
    let app = TestApp::start().await;
    register(&app, "ada@example.org").await;
    for email in ["ada@example.org", "eve@example.org"] {
        let answer = send(app.post("/api/v1/auth/password/forgot").json(&json!({"email": email}))).await;
        assert_eq!(answer, (202.try_into().unwrap(), Value::Null));
    }
    let reset = json!({"token": "mrp_0_0", "new_password": "staple correct horse"});
    let problem = send_for_problem(app.post("/api/v1/auth/password/reset").json(&reset)).await;
    assert_eq!(problem, (401, "invalid_token".to_owned()));
}

#[tokio::test]
async fn another_users_session_cannot_be_revoked() {
    let app = TestApp::start().await;
    let (ada, eve) = (register(&app, "ada@example.org").await, register(&app, "eve@example.org").await);
    let (_, list) = send(app.get("/api/v1/auth/sessions").bearer_auth(token(&ada))).await;
    let path = format!("/api/v1/auth/sessions/{}", list["items"][0]["id"].as_str().unwrap());
    let revoke = |session: &Value| app.request(reqwest::Method::DELETE, &path).bearer_auth(token(session));
    assert_eq!(send_for_problem(revoke(&eve)).await, (404, "not_found".to_owned()));
    assert_eq!(send(revoke(&ada)).await.0, 204);
    assert_eq!(send(app.get("/api/v1/auth/me").bearer_auth(token(&ada))).await.0, 401);
}

#[tokio::test]
async fn an_account_can_be_deleted_by_its_owner() {
    let app = TestApp::start().await;
    let session = register(&app, "ada@example.org").await;
    let delete = || app.request(reqwest::Method::DELETE, "/api/v1/auth/me").bearer_auth(token(&session));
    assert_eq!(send(delete()).await.0, 204);
    assert_eq!(send_for_problem(delete()).await, (401, "invalid_token".to_owned()));
}
