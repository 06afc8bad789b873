//! `/users`, `/audit` and the public keys.

use crate::{
    auth::{credentials, register, register_admin, token},
    support::{TestApp, send, send_for_problem},
};
use api::{server, state::AppState};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const NEAR: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn patch(app: &TestApp, admin: &Value, user: &Value, change: &Value) -> RequestBuilder {
    let path = format!("/api/v1/users/{}", user["id"].as_str().unwrap());
    app.request(Method::PATCH, &path).bearer_auth(token(admin)).json(change)
}

#[tokio::test]
async fn users_are_for_administrators() {
    let app = TestApp::start().await;
    let (admin, ada) = (register_admin(&app).await, register(&app, "ada@example.org").await);
    for path in ["/api/v1/users", "/api/v1/audit", &format!("/api/v1/users/{}", ada["user"]["id"].as_str().unwrap())] {
        assert_eq!(send_for_problem(app.get(path).bearer_auth(token(&ada))).await, (403, "insufficient_scope".to_owned()));
        assert_eq!(send(app.get(path).bearer_auth(token(&admin))).await.0, 200, "{path}");
    }
    let unknown = app.get("/api/v1/users/0197a1b2-0000-7000-8000-000000000000").bearer_auth(token(&admin));
    assert_eq!(send_for_problem(unknown).await, (404, "not_found".to_owned()));
}

#[tokio::test]
async fn a_disabled_user_is_out_and_cannot_sign_in() {
    let app = TestApp::start().await;
    let (admin, ada) = (register_admin(&app).await, register(&app, "ada@example.org").await);
    let (status, changed) = send(patch(&app, &admin, &ada["user"], &json!({"disabled": true}))).await;
    assert_eq!((status.as_u16(), &changed["disabled"]), (200, &json!(true)));
    assert_eq!(send(app.get("/api/v1/auth/me").bearer_auth(token(&ada))).await.0, 401);
    let login = app.post("/api/v1/auth/login").json(&credentials("ada@example.org"));
    assert_eq!(send_for_problem(login).await, (403, "forbidden".to_owned()));
}

#[tokio::test]
async fn every_process_refuses_a_disabled_user_within_a_second() {
    let app = TestApp::start().await;
    let (admin, ada) = (register_admin(&app).await, register(&app, "ada@example.org").await);
    let other = server::open_state(app.stores.settings(&[("REVOCATION_POLL_MS", "60000")])).await.unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(other.accounts.clone().run_background(stop.clone()));
    let _stop = stop.drop_guard();
    assert!(other.accounts.authenticate(token(&ada), NEAR).await.is_ok());
    wait_for_listener(&other).await;
    assert_eq!(send(patch(&app, &admin, &ada["user"], &json!({"disabled": true}))).await.0, 200);
    let heard = async {
        while other.accounts.authenticate(token(&ada), NEAR).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(1), heard).await.unwrap();
}

async fn wait_for_listener(state: &AppState) {
    let (mut redis, channel) = (state.ctx.redis.connection(), state.ctx.keys.revocations());
    let n_listeners = async |redis: &mut shared::redis::Connection| -> u32 {
        // One answer from each server.
        let counts: Vec<(String, u32)> = redis::cmd("PUBSUB").arg("NUMSUB").arg(&channel).query_async(redis).await.unwrap();
        counts.iter().map(|(_, n)| n).sum()
    };
    let listening = async {
        while n_listeners(&mut redis).await == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(5), listening).await.unwrap();
}

#[tokio::test]
async fn a_change_of_a_user_that_was_changed_meanwhile_is_refused() {
    let app = TestApp::start().await;
    let (admin, ada) = (register_admin(&app).await, register(&app, "ada@example.org").await);
    let path = format!("/api/v1/users/{}", ada["user"]["id"].as_str().unwrap());
    let seen = app.get(&path).bearer_auth(token(&admin)).send().await.unwrap().headers()["etag"].clone();
    let promote = || patch(&app, &admin, &ada["user"], &json!({"role": "operator"})).header("if-match", &seen);
    assert_eq!(send(promote()).await.0, 200);
    assert_eq!(send_for_problem(promote()).await, (412, "precondition_failed".to_owned()));
    let unchanged = app.get(&path).bearer_auth(token(&admin)).header("if-none-match", "*").send().await.unwrap();
    assert_eq!(unchanged.status(), 304);
}

#[tokio::test]
async fn the_last_administrator_stays() {
    let app = TestApp::start().await;
    let admin = register_admin(&app).await;
    for change in [json!({"role": "user"}), json!({"disabled": true})] {
        assert_eq!(send_for_problem(patch(&app, &admin, &admin["user"], &change)).await, (409, "last_admin".to_owned()));
    }
    let leave = app.request(Method::DELETE, "/api/v1/auth/me").bearer_auth(token(&admin));
    assert_eq!(send_for_problem(leave).await, (409, "last_admin".to_owned()));
}

#[tokio::test]
async fn the_audit_log_tells_who_did_what_from_where() {
    let app = TestApp::start().await;
    let admin = register_admin(&app).await;
    let entry = send(app.get("/api/v1/audit?limit=1").bearer_auth(token(&admin))).await.1["items"][0].clone();
    assert_eq!((&entry["action"], &entry["actor_id"]), (&json!("login"), &admin["user"]["id"]));
    assert_eq!(entry["address"], json!("127.0.0.1"));
    assert!(entry["request_id"].is_string());
}

#[tokio::test]
async fn the_public_keys_are_public_and_only_the_public_half() {
    let app = TestApp::start().await;
    let (status, set) = send(app.get("/.well-known/jwks.json")).await;
    let key = &set["keys"][0];
    assert_eq!((status.as_u16(), &key["kty"], &key["crv"], &key["alg"]), (200, &json!("OKP"), &json!("Ed25519"), &json!("EdDSA")));
    assert_eq!(key.get("d"), None);
}
