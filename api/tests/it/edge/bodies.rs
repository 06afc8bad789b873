//! Bodies that are too large, too slow, or not what they say.

use crate::{
    auth::{credentials, register, token},
    support::{TestApp, send, send_for_problem},
};
use futures_util::stream;
use reqwest::Body;
use rstest::rstest;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

#[tokio::test]
async fn an_oversize_body_is_refused_by_its_announced_length() {
    let app = TestApp::start_with(&[("MAX_BODY_BYTES", "2KiB"), ("MAX_PAYLOAD_BYTES", "1KiB")]).await;
    let request = app.post("/api/v1/auth/login").header("content-type", "application/json").body("x".repeat(3_000));
    assert_eq!(send_for_problem(request).await, (413, "body_too_large".to_owned()));
}

#[tokio::test]
async fn an_oversize_body_of_unknown_length_is_refused_when_it_passes_the_limit() {
    let app = TestApp::start_with(&[("MAX_BODY_BYTES", "2KiB"), ("MAX_PAYLOAD_BYTES", "1KiB")]).await;
    let chunks = stream::iter((0..8).map(|_| Ok::<_, std::io::Error>("x".repeat(500))));
    let request = app.post("/api/v1/auth/login").header("content-type", "application/json").body(Body::wrap_stream(chunks));
    assert_eq!(send_for_problem(request).await, (413, "body_too_large".to_owned()));
}

#[rstest]
#[case::form("application/x-www-form-urlencoded")]
#[case::text("text/plain")]
#[case::almost("application/jsonp")]
#[tokio::test]
async fn a_body_that_is_not_json_is_a_415(#[case] content_type: &str) {
    let app = TestApp::start().await;
    let request = app.post("/api/v1/auth/login").header("content-type", content_type).body(credentials("a@example.org").to_string());
    assert_eq!(send_for_problem(request).await, (415, "unsupported_media_type".to_owned()));
}

/// A megabyte of zeros is a kilobyte of gzip: nothing is unpacked, so nothing grows.
#[rstest]
#[case::json("/jobs", "application/json")]
#[case::bulk("/jobs/bulk", "application/json")]
#[case::lines("/jobs/bulk", "application/x-ndjson")]
#[case::points("/points", "application/json")]
#[case::points_as_csv("/points", "text/csv")]
#[case::points_as_gpx("/points", "application/gpx+xml")]
#[case::leases("/leases/settle", "application/json")]
#[case::file("/files", "multipart/form-data; boundary=x")]
#[tokio::test]
async fn a_compressed_body_is_refused_packed(#[case] path: &str, #[case] content_type: &str) {
    let app = TestApp::start().await;
    let admin = crate::auth::register_admin(&app).await;
    for encoding in ["gzip", "br", "zstd", "deflate", "gzip, identity"] {
        let request = app.post(&format!("/api/v1{path}")).bearer_auth(token(&admin)).header("content-type", content_type);
        let packed = request.header("content-encoding", encoding).body(vec![0x1f, 0x8b, 8, 0]);
        assert_eq!(send_for_problem(packed).await, (415, "unsupported_media_type".to_owned()), "{path} {encoding}");
    }
}

/// Sends a head and what there is of its body, and hears everything that is said until the connection is closed.
async fn last_words(app: &TestApp, sent: &str) -> String {
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.write_all(sent.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.expect("the connection goes").unwrap();
    String::from_utf8(answer).unwrap()
}

#[rstest]
#[case::announced("Content-Length: 100\r\n\r\n{\"email\"")]
#[case::in_chunks("Transfer-Encoding: chunked\r\n\r\n8\r\n{\"email\"\r\n")]
#[case::in_a_chunk_that_is_never_whole("Transfer-Encoding: chunked\r\n\r\nfffff\r\n{\"email\"")]
#[tokio::test]
async fn a_body_that_never_comes_is_a_408_and_its_connection_goes(#[case] rest: &str) {
    let app = TestApp::start_with(&[("API_CLIENT_TIMEOUT_S", "1")]).await;
    let head = "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let answer = last_words(&app, &format!("{head}{rest}")).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("connection: close"), "{answer}");
}

#[rstest]
#[case::nowhere("POST /nope", "404")]
#[case::without_a_sign_in("POST /api/v1/jobs", "401")]
#[case::where_none_is_read("GET /healthz", "200")]
#[tokio::test]
async fn a_body_that_nobody_reads_to_its_end_holds_no_connection(#[case] line: &str, #[case] status: &str) {
    let app = TestApp::start().await;
    let head = format!("{line} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    let answer = last_words(&app, &format!("{head}1\r\n{{\r\n")).await;
    assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    // One that goes on is not read for ever either.
    let mut endless = TcpStream::connect(app.address).await.unwrap();
    endless.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("{:x}\r\n{}\r\n", 4_096, " ".repeat(4_096));
    let send = async { while endless.write_all(chunk.as_bytes()).await.is_ok() {} };
    timeout(Duration::from_secs(20), send).await.expect("it is taken no more");
}

#[tokio::test]
async fn a_body_in_chunks_that_is_there_keeps_its_connection_though_nobody_reads_it() {
    let app = TestApp::start().await;
    let refused = "POST /nope HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    let last = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answers = last_words(&app, &format!("{refused}{refused}{last}")).await;
    assert_eq!((answers.matches("HTTP/1.1 404").count(), answers.matches("HTTP/1.1 200").count()), (2, 1), "{answers}");
}

#[rstest]
#[case::nul("/api/v1/audit?cursor=%00", 422, "invalid_text")]
#[case::unknown_name("/api/v1/audit?nope=1", 400, "invalid_query")]
#[case::wrong_type("/api/v1/audit?limit=many", 400, "invalid_query")]
#[case::zero("/api/v1/audit?limit=0", 400, "invalid_query")]
#[case::negative("/api/v1/audit?limit=-5", 400, "invalid_query")]
#[case::huge("/api/v1/audit?limit=99999999999999999999", 400, "invalid_query")]
#[case::foreign_cursor("/api/v1/audit?cursor=abc", 400, "invalid_cursor")]
#[tokio::test]
async fn a_query_is_checked_like_a_body(#[case] path: &str, #[case] status: u16, #[case] code: &str) {
    let app = TestApp::start().await;
    let session = crate::auth::register_admin(&app).await;
    assert_eq!(send_for_problem(app.get(path).bearer_auth(token(&session))).await, (status, code.to_owned()));
}

#[tokio::test]
async fn a_limit_beyond_the_largest_page_is_cut_to_it() {
    let app = TestApp::start().await;
    let session = crate::auth::register_admin(&app).await;
    assert_eq!(send(app.get("/api/v1/audit?limit=100000").bearer_auth(token(&session))).await.0, 200);
}

#[tokio::test]
async fn an_id_that_is_none_names_nothing() {
    let app = TestApp::start().await;
    let session = register(&app, "ada@example.org").await;
    for id in ["7", "not-an-id", "%00", "00000000-0000-0000-0000-000000000000"] {
        let request = app.request(reqwest::Method::DELETE, &format!("/api/v1/auth/sessions/{id}")).bearer_auth(token(&session));
        assert_eq!(send_for_problem(request).await, (404, "not_found".to_owned()), "{id}");
    }
}
