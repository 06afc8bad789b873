//! `rpc`: the operations of REST over a socket.

use super::client::Socket;
use crate::{
    auth::{register, token},
    support::TestApp,
};
use serde_json::json;

#[tokio::test]
async fn jobs_are_submitted_read_and_cancelled() {
    let app = TestApp::start().await;
    let mut socket = Socket::signed_in(&app, token(&register(&app, "ada@example.org").await)).await;
    let submit = json!({"method": "jobs.submit", "data": {"kind": "debug.echo", "payload": {"n": 1}}});
    let job = socket.ask("rpc", submit).await.unwrap()["data"].clone();
    assert_eq!(job["kind"], "debug.echo");
    let get = socket.ask("rpc", json!({"method": "jobs.get", "data": {"id": job["id"]}})).await.unwrap();
    assert_eq!(get["data"]["id"], job["id"]);
    let cancelled = socket.ask("rpc", json!({"method": "jobs.cancel", "data": {"id": job["id"]}})).await.unwrap();
    assert_eq!(cancelled["data"]["state"], "cancelled");
}

#[tokio::test]
async fn errors_are_those_of_rest_in_the_terms_of_the_protocol() {
    let app = TestApp::start_with(&[("WS_ANONYMOUS", "on")]).await;
    let mut socket = Socket::signed_in(&app, token(&register(&app, "ada@example.org").await)).await;
    let mut code = async |request| socket.ask("rpc", request).await.unwrap_err()["code"].clone();
    assert_eq!(code(json!({"method": "jobs.unknown"})).await, 104);
    assert_eq!(code(json!({"method": "jobs.get", "data": {"id": "00000000-0000-7000-8000-000000000000"}})).await, 404);
    assert_eq!(code(json!({"method": "jobs.get", "data": 1})).await, 107);
    assert_eq!(code(json!({"method": "jobs.submit", "data": {"kind": "no.such.kind"}})).await, 422);
    let mut stranger = Socket::anonymous(&app).await;
    let refused = stranger.ask("rpc", json!({"method": "jobs.submit", "data": {"kind": "debug.echo"}})).await.unwrap_err();
    assert_eq!(refused["code"], 101);
}
