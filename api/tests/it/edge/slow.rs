//! Clients that take their time: what they hold meanwhile, and what they keep from nobody.

use super::pressure::{lock_users, wait_for_waiter};
use crate::{
    auth::{register, token},
    support::{TestApp, problem_of, send},
};
use serde_json::json;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
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
async fn who_would_wait_for_a_job_keeps_the_place_in_flight_until_there_is_a_job() {
    let app = TestApp::start_with(&[("API_CONCURRENCY_LIMIT", "1")]).await;
    let session = register(&app, "ada@example.org").await;
    let headers = format!("Authorization: Bearer {}\r\nPrefer: wait=30\r\n", token(&session));
    let slow = begin(&app, "/api/v1/jobs", &headers).await;
    let other = app.get("/api/v1/auth/me").bearer_auth(token(&session)).send().await.unwrap();
    assert_eq!(problem_of(other).await, (503, "overloaded".to_owned()));
    drop(slow);
}

#[tokio::test]
async fn where_nothing_is_waited_for_the_wish_to_wait_moves_no_deadline() {
    let settings = [("REQUEST_TIMEOUT_MS", "500"), ("DB_LOCK_TIMEOUT_MS", "60000"), ("DB_STATEMENT_TIMEOUT_MS", "60000")];
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
