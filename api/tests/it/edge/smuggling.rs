//! Requests whose end two servers could see in two places, or whose headers could be read in two ways: all refused, so
//! that nothing rides behind them through a proxy.

use crate::{
    auth::{register, token},
    support::{TestApp, send_for_problem},
};
use reqwest::header::HeaderValue;
use rstest::rstest;
use serde_json::json;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const CHUNKED: &str = "2\r\n{}\r\n0\r\n\r\n";

#[rstest]
#[case::two_lengths("Content-Length: 2\r\nContent-Length: 7", "{}")]
#[case::the_same_length_twice("Content-Length: 2\r\nContent-Length: 2", "{}")]
#[case::a_list_of_lengths("Content-Length: 2, 2", "{}")]
#[case::a_signed_length("Content-Length: +2", "{}")]
#[case::length_and_chunks("Content-Length: 4\r\nTransfer-Encoding: chunked", CHUNKED)]
#[case::chunks_and_length("Transfer-Encoding: chunked\r\nContent-Length: 4", CHUNKED)]
#[case::an_unknown_coding("Transfer-Encoding: xchunked", CHUNKED)]
#[case::chunked_not_last("Transfer-Encoding: chunked, identity", CHUNKED)]
#[case::two_codings("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", CHUNKED)]
#[case::a_space_before_the_colon("Transfer-Encoding : chunked", CHUNKED)]
#[case::a_folded_header("X-Folded: a\r\n b\r\nContent-Length: 2", "{}")]
#[case::two_hosts("Host: other\r\nContent-Length: 2", "{}")]
#[tokio::test]
async fn a_request_of_doubtful_length_is_refused_with_its_connection(#[case] headers: &str, #[case] body: &str) {
    let app = TestApp::start().await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let smuggled = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let text =
        format!("POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}\r\n\r\n{body}{smuggled}");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A connection that is cut with bytes unread may end in a reset; what came before counts.
    let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.expect("the connection ends");
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
}

#[tokio::test]
async fn a_header_that_counts_once_is_refused_twice() {
    let app = TestApp::start().await;
    let session = register(&app, "ada@example.org").await;
    let twice = app.get("/api/v1/auth/me").bearer_auth(token(&session)).header("authorization", "Bearer other");
    assert_eq!(send_for_problem(twice).await, (401, "invalid_token".to_owned()));
    let submit = app.post("/api/v1/jobs").bearer_auth(token(&session)).json(&json!({"kind": "debug.echo"}));
    let twice = submit.header("idempotency-key", "one").header("idempotency-key", "two");
    assert_eq!(send_for_problem(twice).await, (400, "invalid_header".to_owned()));
}

#[rstest]
#[case::method("x-http-method-override", "DELETE")]
#[case::method_of_old("x-method-override", "DELETE")]
#[case::path("x-original-url", "/api/v1/users")]
#[case::path_of_old("x-rewrite-url", "/api/v1/users")]
#[tokio::test]
async fn no_header_changes_what_is_asked_for(#[case] name: &'static str, #[case] value: &'static str) {
    let app = TestApp::start().await;
    let session = register(&app, "ada@example.org").await;
    for _ in 0..2 {
        let request = app.get("/api/v1/auth/me").bearer_auth(token(&session)).header(name, HeaderValue::from_static(value));
        let response = request.send().await.unwrap();
        assert_eq!((response.status().as_u16(), response.json::<serde_json::Value>().await.unwrap()), (200, session["user"].clone()));
    }
}

#[rstest]
#[case::dots("/docs/../../etc/passwd")]
#[case::encoded_dots("/docs/%2e%2e/%2e%2e/etc/passwd")]
#[case::encoded_slashes("/docs/..%2f..%2fetc%2fpasswd")]
#[case::backslashes("/docs/..%5c..%5cetc%5cpasswd")]
#[case::absolute("/docs//etc/passwd")]
#[case::nul("/docs/index.html%00.js")]
#[tokio::test]
async fn the_documentation_has_no_way_out(#[case] path: &str) {
    let app = TestApp::start().await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}
