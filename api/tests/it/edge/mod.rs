//! What holds for every request, whatever its route.

mod bodies;
mod headers;
mod large;
mod pipelining;
mod pressure;
mod revoked;
mod slow;
mod smuggling;
mod turns;

use crate::support::{TestApp, send_for_problem};
use reqwest::Method;
use rstest::rstest;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

#[tokio::test]
async fn an_unknown_path_is_a_problem() {
    let app = TestApp::start().await;
    assert_eq!(send_for_problem(app.get("/nope")).await, (404, "not_found".into()));
    assert_eq!(send_for_problem(app.get("/api/v1/nope")).await, (404, "not_found".into()));
}

#[tokio::test]
async fn a_wrong_method_names_the_right_ones() {
    let app = TestApp::start().await;
    let response = app.request(Method::DELETE, "/healthz").send().await.unwrap();
    assert_eq!(response.headers()["allow"], "HEAD, GET");
    assert_eq!(crate::support::problem_of(response).await, (405, "method_not_allowed".into()));
}

#[tokio::test]
async fn head_works_wherever_get_does() {
    let app = TestApp::start().await;
    let response = app.request(Method::HEAD, "/healthz").send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.bytes().await.unwrap().is_empty());
}

#[rstest]
#[case::kept("abc-123", true)]
#[case::with_a_space("a b", false)]
#[case::too_long(&"x".repeat(129), false)]
#[tokio::test]
async fn a_request_id_is_kept_if_well_formed_and_made_otherwise(#[case] given: &str, #[case] is_kept: bool) {
    let app = TestApp::start().await;
    let response = app.get("/healthz").header("x-request-id", given).send().await.unwrap();
    assert_eq!(response.headers()["x-request-id"] == given, is_kept);
}

#[tokio::test]
async fn credentials_are_asked_for_before_the_body_is_looked_at() {
    let app = TestApp::start().await;
    assert_eq!(send_for_problem(app.get("/api/v1/system/info")).await, (401, "unauthenticated".into()));
    let response = app.get("/api/v1/system/info").send().await.unwrap();
    assert!(response.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
}

#[rstest]
#[case::no_scheme("abc")]
#[case::other_scheme("Basic YTpi")]
#[case::empty("Bearer ")]
#[tokio::test]
async fn a_malformed_authorization_header_is_a_401(#[case] value: &str) {
    let app = TestApp::start().await;
    assert_eq!(send_for_problem(app.get("/api/v1/system/info").header("authorization", value)).await, (401, "invalid_token".into()));
}

#[tokio::test]
async fn a_request_head_that_never_ends_is_cut_off() {
    let app = TestApp::start_with(&[("API_CLIENT_TIMEOUT_S", "1")]).await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    let mut answer = Vec::new();
    let ended = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "the connection was left open");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_told_so_and_one_that_is_large_is_taken() {
    let app = TestApp::start().await;
    for (n_bytes, status) in [(30_000, "200"), (33_000, "431"), (100_000, "431")] {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        let head = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: {}\r\n\r\n", "a".repeat(n_bytes));
        let mut answer = Vec::new();
        // It may be cut off before it has sent all, and then end in a reset; what came before counts.
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.expect("the connection ends");
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{n_bytes}: {answer}");
    }
}

#[rstest]
#[case::listed("https://app.example.org", Some("https://app.example.org"))]
#[case::foreign("https://evil.example.org", None)]
#[tokio::test]
async fn only_listed_origins_may_call_from_a_browser(#[case] origin: &str, #[case] allowed: Option<&str>) {
    let app = TestApp::start_with(&[("CORS_ORIGINS", "https://app.example.org")]).await;
    let response = app.get("/healthz").header("origin", origin).send().await.unwrap();
    assert_eq!(response.headers().get("access-control-allow-origin").map(|value| value.to_str().unwrap()), allowed);
    assert_eq!(response.headers().get("access-control-allow-credentials"), None);
}

#[rstest]
#[case::gzip("gzip", Some("gzip"))]
#[case::brotli("br", Some("br"))]
#[case::zstd("zstd", Some("zstd"))]
#[case::plain("identity", None)]
#[case::nothing_acceptable("*;q=0", None)]
#[tokio::test]
async fn large_answers_are_compressed_as_the_client_likes(#[case] accepted: &str, #[case] encoding: Option<&str>) {
    let app = TestApp::start().await;
    let response = app.get("/api-docs/openapi.json").header("accept-encoding", accepted).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers().get("content-encoding").map(|value| value.to_str().unwrap()), encoding);
}

#[tokio::test]
async fn small_answers_are_not_compressed() {
    let app = TestApp::start().await;
    let response = app.get("/healthz").header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(response.headers().get("content-encoding"), None);
    assert_eq!(response.text().await.unwrap(), r#"{"status":"ok"}"#);
}
