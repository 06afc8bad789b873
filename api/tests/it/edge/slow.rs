//! Clients that take their time: what they hold meanwhile, and what they keep from nobody.

use super::pressure::{lock, lock_users, wait_for_waiter};
use crate::{
    auth::{register, token},
    support::{TestApp, problem_of, send},
};
use rstest::rstest;
use serde_json::json;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// Begins a request, whose body does not come, and returns when the server waits for it.
async fn begin(app: &TestApp, path: &str, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let always = "Host: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n";
    stream.write_all(format!("POST {path} HTTP/1.1\r\n{always}{headers}\r\n").as_bytes()).await.unwrap();
    assert!(heard(&mut stream).await.starts_with("HTTP/1.1 100"));
    stream
}

async fn heard(stream: &mut TcpStream) -> String {
    let mut answer = vec![0; 64];
    let n_read = timeout(Duration::from_secs(20), stream.read(&mut answer)).await.expect("it answers").unwrap();
    String::from_utf8_lossy(&answer[..n_read]).into_owned()
}

/// The head of an answer, when all of the answer is there.
pub(super) async fn whole_answer(stream: &mut TcpStream) -> String {
    let mut answer = String::new();
    loop {
        let part = heard(stream).await;
        assert!(!part.is_empty(), "the connection is gone: {answer}");
        answer += &part;
        let Some((head, body)) = answer.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok()).expect("answers say their length");
        if body.len() >= length {
            return head.to_owned();
        }
    }
}

#[tokio::test]
async fn sign_ins_whose_bodies_do_not_come_end_soon_and_keep_nobody_from_signing_in() {
    let settings = [("PASSWORD_HASHES_MAX", "1"), ("PASSWORD_QUEUE_MAX", "0"), ("API_CLIENT_TIMEOUT_S", "600")];
    let app = TestApp::start_with(&settings).await;
    register(&app, "ada@example.org").await;
    let mut slow = Vec::new();
    for _ in 0..3 {
        slow.push(begin(&app, "/api/v1/auth/login", "").await);
    }
    let sign_in = app.post("/api/v1/auth/login").json(&json!({"email": "ada@example.org", "password": "correct horse battery"}));
    assert_eq!(send(sign_in).await.0, 200);
    for mut stream in slow {
        assert!(heard(&mut stream).await.starts_with("HTTP/1.1 408"));
    }
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_told_so_before_the_request_itself_is_late() {
    let app = TestApp::start_with(&[("REQUEST_TIMEOUT_MS", "3000")]).await;
    let session = register(&app, "ada@example.org").await;
    let mut slow = begin(&app, "/api/v1/jobs", &format!("Authorization: Bearer {}\r\n", token(&session))).await;
    let answer = whole_answer(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn who_would_wait_for_a_job_keeps_the_place_in_flight_until_there_is_a_job() {
    let patient = [("DB_LOCK_TIMEOUT_MS", "60000"), ("DB_STATEMENT_TIMEOUT_MS", "60000")];
    // Submits are written over the connections of the process, which the test asks over as well.
    let app = TestApp::start_with(&[&patient[..], &[("API_CONCURRENCY_LIMIT", "1"), ("DB_POOL_MAX", "32")]].concat()).await;
    let session = register(&app, "ada@example.org").await;
    let lock = lock(&app, "LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE").await;
    let submit = app
        .post("/api/v1/jobs")
        .bearer_auth(token(&session))
        .header("prefer", "wait=30")
        .json(&json!({"kind": "debug.echo", "payload": 1}));
    let submitted = tokio::spawn(submit.send());
    wait_for_waiter(&app).await;
    let ask = async || app.get("/api/v1/auth/me").bearer_auth(token(&session)).send().await.unwrap();
    assert_eq!(problem_of(ask().await).await, (503, "overloaded".to_owned()));
    lock.rollback().await.unwrap();
    let others_go_on = async { while ask().await.status() != 200 {} };
    timeout(Duration::from_secs(20), others_go_on).await.expect("who waits for the job has left its place");
    submitted.abort();
}

/// A body of as many bytes as [`begin`] says.
fn padded(json: &str) -> String {
    format!("{json:100}")
}

const JOB: &str = r#"{"kind": "debug.echo", "payload": 1}"#;
const JOBS: &str = r#"{"jobs": [{"kind": "debug.echo", "payload": 1}]}"#;
const REFRESH: &str = r#"{"refresh_token": "none"}"#;

#[rstest]
#[case::of_a_user("/api/v1/jobs", true, JOB, "202", "/api/v1/jobs", JOB)]
#[case::of_a_user_and_large_perhaps("/api/v1/jobs/bulk", true, JOBS, "207", "/api/v1/jobs/bulk", JOBS)]
#[case::of_strangers("/api/v1/auth/refresh", false, REFRESH, "401", "/api/v1/jobs", JOB)]
#[tokio::test]
async fn bodies_on_their_way_keep_nobody_out_and_are_answered_when_they_come(
    #[case] path: &str,
    #[case] is_of_user: bool,
    #[case] body: &str,
    #[case] answered: &str,
    #[case] path_of_other: &str,
    #[case] body_of_other: &'static str,
) {
    // Without limits of rate nothing is waited for between the head and the body.
    let patient = [("API_CLIENT_TIMEOUT_S", "600"), ("REQUEST_TIMEOUT_MS", "600000"), ("RATE_LIMITS", "off")];
    let app = TestApp::start_with(&[&patient[..], &[("API_CONCURRENCY_LIMIT", "20")]].concat()).await;
    let (slow, other) = (register(&app, "slow@example.org").await, register(&app, "other@example.org").await);
    let credentials = if is_of_user { format!("Authorization: Bearer {}\r\n", token(&slow)) } else { String::new() };
    let mut on_their_way = Vec::new();
    for _ in 0..25 {
        on_their_way.push(begin(&app, path, &credentials).await);
    }
    let send_other =
        || app.post(path_of_other).bearer_auth(token(&other)).header("content-type", "application/json").body(body_of_other).send();
    let answered_meanwhile = async { while !send_other().await.unwrap().status().is_success() {} };
    timeout(Duration::from_secs(20), answered_meanwhile).await.expect("another is served while they wait");
    for mut stream in on_their_way {
        stream.write_all(padded(body).as_bytes()).await.unwrap();
        let answer = whole_answer(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {answered}")), "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_comes_when_all_places_are_taken_is_shed_and_keeps_its_connection() {
    let settings = [("API_CONCURRENCY_LIMIT", "1"), ("API_CLIENT_TIMEOUT_S", "600"), ("RATE_LIMITS", "off")];
    let app = TestApp::start_with(&settings).await;
    let session = register(&app, "ada@example.org").await;
    let mut slow = begin(&app, "/api/v1/jobs", &format!("Authorization: Bearer {}\r\n", token(&session))).await;
    let lock = lock_users(&app).await;
    let held = tokio::spawn(app.get("/api/v1/auth/me").bearer_auth(token(&session)).send());
    wait_for_waiter(&app).await;
    slow.write_all(padded(JOB).as_bytes()).await.unwrap();
    let shed = whole_answer(&mut slow).await.to_lowercase();
    assert!(shed.starts_with("http/1.1 503") && shed.contains("retry-after: ") && !shed.contains("connection: close"), "{shed}");
    lock.rollback().await.unwrap();
    assert_eq!(held.await.unwrap().unwrap().status(), 200);
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert!(whole_answer(&mut slow).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn strangers_whose_bodies_are_on_their_way_are_so_many_and_a_body_that_comes_with_its_head_is_read() {
    // Strangers have a quarter of 64 KiB, and a body that is on its way counts as 4 KiB at least.
    let sizes = [("BODIES_MAX_BYTES", "64KiB"), ("MAX_BULK_BYTES", "64KiB"), ("MAX_BODY_BYTES", "16KiB"), ("MAX_PAYLOAD_BYTES", "16KiB")];
    let app = TestApp::start_with(&[&sizes[..], &[("RATE_LIMITS", "off"), ("API_CLIENT_TIMEOUT_S", "600")]].concat()).await;
    let mut on_their_way = Vec::new();
    for _ in 0..4 {
        on_their_way.push(begin(&app, "/api/v1/auth/refresh", "").await);
    }
    let head = "POST /api/v1/auth/refresh HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n";
    for (body, status) in [(String::new(), "503"), (padded(REFRESH), "401")] {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        let answer = whole_answer(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    drop(on_their_way);
}

#[rstest]
#[case::unknown("POST /nope", "404")]
#[case::uninvited("POST /api/v1/jobs", "401")]
#[case::not_asked_for("GET /healthz", "200")]
#[tokio::test]
async fn an_answer_to_the_head_alone_costs_no_connection_when_the_body_is_there(#[case] request: &str, #[case] status: &str) {
    let app = TestApp::start().await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    for body in ["Content-Length: 2\r\n\r\n{}", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"] {
        stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n{body}").as_bytes()).await.unwrap();
        let head = whole_answer(&mut stream).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")) && !head.to_lowercase().contains("connection: close"), "{head}");
    }
}

#[tokio::test]
async fn who_is_shed_with_a_short_body_keeps_the_connection() {
    let app = TestApp::start_with(&[("API_CONCURRENCY_LIMIT", "1")]).await;
    let session = register(&app, "ada@example.org").await;
    let lock = lock_users(&app).await;
    let held = tokio::spawn(app.get("/api/v1/auth/me").bearer_auth(token(&session)).send());
    wait_for_waiter(&app).await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    for _ in 0..2 {
        stream.write_all(b"POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
        let head = whole_answer(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 503") && !head.to_lowercase().contains("connection: close"), "{head}");
    }
    lock.rollback().await.unwrap();
    assert_eq!(held.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn where_nothing_is_waited_for_the_wish_to_wait_moves_no_deadline() {
    let settings = [("REQUEST_TIMEOUT_MS", "3000"), ("DB_LOCK_TIMEOUT_MS", "60000"), ("DB_STATEMENT_TIMEOUT_MS", "60000")];
    let app = TestApp::start_with(&settings).await;
    let session = register(&app, "ada@example.org").await;
    let lock = lock_users(&app).await;
    let asked = tokio::spawn(app.get("/api/v1/auth/me").header("prefer", "wait=30").bearer_auth(token(&session)).send());
    wait_for_waiter(&app).await;
    let answer = timeout(Duration::from_secs(20), asked).await.expect("its deadline is the usual one").unwrap().unwrap();
    assert_eq!(problem_of(answer).await, (504, "deadline_exceeded".to_owned()));
    lock.rollback().await.unwrap();
}

#[tokio::test]
async fn past_the_limit_of_connections_the_next_waits_until_one_goes() {
    let app = TestApp::start_with(&[("API_MAX_CONNECTIONS", "2")]).await;
    let ask = async |stream: &mut TcpStream| stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        ask(&mut stream).await;
        assert!(heard(&mut stream).await.starts_with("HTTP/1.1 200"));
        held.push(stream);
    }
    let mut next = TcpStream::connect(app.address).await.unwrap();
    ask(&mut next).await;
    for stream in &mut held {
        // What is left of the answer before, and the whole of this one, which was asked for last.
        ask(stream).await;
        let mut answers = String::new();
        while !answers.contains("HTTP/1.1 200") {
            answers += &heard(stream).await;
        }
    }
    assert!(next.try_read(&mut [0; 1]).is_err(), "it is not answered while two are open");
    held.pop();
    assert!(heard(&mut next).await.starts_with("HTTP/1.1 200"));
}

#[rstest]
#[case::of_a_head("", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ", "a")]
#[case::in_front_of_one("", "", "\r\n")]
#[case::begun_together_with_a_request("GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ", "", "a")]
#[case::and_left_there("GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ", "", "")]
#[tokio::test]
async fn a_head_that_never_ends_holds_no_connection_after_an_answered_request_either(
    #[case] together: &str,
    #[case] begun: &str,
    #[case] dripping: &str,
) {
    let app = TestApp::start_with(&[("API_CLIENT_TIMEOUT_S", "1"), ("API_KEEP_ALIVE_S", "2")]).await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.write_all(format!("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n{together}").as_bytes()).await.unwrap();
    assert!(heard(&mut stream).await.starts_with("HTTP/1.1 200"));
    let (mut from, mut to) = stream.into_split();
    to.write_all(begun.as_bytes()).await.unwrap();
    let drip = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        while to.write_all(dripping.as_bytes()).await.is_ok() {
            ticks.tick().await;
        }
        std::future::pending::<()>().await;
    };
    let mut rest = Vec::new();
    let either = async {
        tokio::select! { _ = from.read_to_end(&mut rest) => {} () = drip => {} }
    };
    timeout(Duration::from_secs(20), either).await.expect("the connection goes");
}

#[tokio::test]
async fn who_takes_longer_between_requests_than_a_head_may_keeps_the_connection() {
    let app = TestApp::start_with(&[("API_CLIENT_TIMEOUT_S", "1")]).await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let mut ticks = tokio::time::interval(Duration::from_millis(1_200));
    for _ in 0..3 {
        ticks.tick().await;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(whole_answer(&mut stream).await.starts_with("HTTP/1.1 200"));
    }
}

#[rstest]
#[case::in_its_time(&[("API_SEND_TIMEOUT_S", "1")])]
#[case::sooner_when_too_much_is_kept(&[("API_SEND_TIMEOUT_S", "3600"), ("API_UNSENT_MAX_BYTES", "1")])]
#[tokio::test]
async fn who_reads_no_answer_is_left(#[case] settings: &[(&str, &str)]) {
    let app = TestApp::start_with(&[settings, &[("API_MAX_CONNECTIONS", "1")]].concat()).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let mut deaf = socket.connect(app.address).await.unwrap();
    // More than the buffers of the kernel take.
    deaf.write_all("GET /api-docs/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(16).as_bytes()).await.unwrap();
    assert!(heard(&mut deaf).await.starts_with("HTTP/1.1 200"));
    let mut next = TcpStream::connect(app.address).await.unwrap();
    next.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert!(whole_answer(&mut next).await.starts_with("HTTP/1.1 200"), "its place is free");
    drop(deaf);
}
