//! Requests whose credentials are revoked while their bodies come.

use crate::{
    auth::{register, token},
    support::{TestApp, send},
};
use rstest::rstest;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const FORM: &str = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\na\r\n--b--\r\n";
const JSON: &str = "application/json";

async fn heard(stream: &mut TcpStream) -> String {
    let mut answer = vec![0; 4_096];
    let n_read = timeout(Duration::from_secs(20), stream.read(&mut answer)).await.expect("it answers").unwrap();
    String::from_utf8_lossy(&answer[..n_read]).into_owned()
}

/// Has the head of a POST let in, has `meanwhile` happen, sends `body`, and returns the answer.
async fn post_around(app: &TestApp, path: &str, headers: &str, body: &str, meanwhile: impl AsyncFnOnce()) -> String {
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nExpect: 100-continue\r\n{headers}\r\n", body.len());
    // The first byte of the body is there with the head: the handler reads it, and has been let in.
    stream.write_all(format!("{head}{}", &body[..1]).as_bytes()).await.unwrap();
    assert!(heard(&mut stream).await.starts_with("HTTP/1.1 100"));
    // One thread serves both: when this is answered, the other has begun.
    assert_eq!(send(app.get("/healthz")).await.0, 200);
    meanwhile().await;
    stream.write_all(&body.as_bytes()[1..]).await.unwrap();
    heard(&mut stream).await
}

async fn sign_out(app: &TestApp, session: &Value) {
    let body = json!({"refresh_token": session["refresh_token"]});
    assert_eq!(send(app.post("/api/v1/auth/logout").bearer_auth(token(session)).json(&body)).await.0, 204);
}

#[rstest]
#[case::key("/api/v1/api-keys", JSON, r#"{"name":"outlives","scopes":["jobs:read"]}"#)]
#[case::job("/api/v1/jobs", JSON, r#"{"kind":"debug.echo"}"#)]
#[case::jobs("/api/v1/jobs/bulk", JSON, r#"{"jobs":[{"kind":"debug.echo"}]}"#)]
#[case::lines_of_jobs("/api/v1/jobs/bulk", "application/x-ndjson", "{\"kind\":\"debug.echo\"}\n")]
#[case::file("/api/v1/files", "multipart/form-data; boundary=b", FORM)]
#[tokio::test]
async fn what_comes_after_the_credentials_were_revoked_is_not_done(#[case] path: &str, #[case] content_type: &str, #[case] body: &str) {
    let app = TestApp::start_with(&[("API_WORKERS", "1")]).await;
    let session = register(&app, "ada@example.org").await;
    let headers = format!("Authorization: Bearer {}\r\nContent-Type: {content_type}\r\n", token(&session));
    let answer = post_around(&app, path, &headers, body, async || sign_out(&app, &session).await).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

#[tokio::test]
async fn a_key_goes_on_when_the_password_of_its_user_changes() {
    let app = TestApp::start_with(&[("API_WORKERS", "1")]).await;
    let session = register(&app, "ada@example.org").await;
    let new = json!({"name": "import", "scopes": ["jobs:write"]});
    let (_, key) = send(app.post("/api/v1/api-keys").bearer_auth(token(&session)).json(&new)).await;
    let headers = format!("X-API-Key: {}\r\nContent-Type: {JSON}\r\n", key["key"].as_str().unwrap());
    let change = async || {
        let body = json!({"current_password": "correct horse battery", "new_password": "incorrect horse battery"});
        let (status, answer) = send(app.post("/api/v1/auth/password").bearer_auth(token(&session)).json(&body)).await;
        assert!(status.is_success(), "{answer}");
    };
    let answer = post_around(&app, "/api/v1/jobs", &headers, r#"{"kind":"debug.echo"}"#, change).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
}
