//! Large bodies: whose there may be at once, and what they leave behind.

use super::slow::whole_answer;
use crate::{
    auth::{register, token},
    support::{TestApp, send},
};
use serde_json::Value;
use std::time::Duration;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

#[tokio::test]
async fn who_holds_many_large_bodies_leaves_room_for_others() {
    let app = TestApp::start_with(&[
        ("BODIES_MAX_BYTES", "400KiB"),
        ("MAX_BULK_BYTES", "100KiB"),
        ("MAX_BODY_BYTES", "64KiB"),
        ("MAX_PAYLOAD_BYTES", "32KiB"),
    ])
    .await;
    let (greedy, modest) = (register(&app, "ada@example.org").await, register(&app, "bob@example.org").await);
    let submit = |session: &Value, body: reqwest::Body| {
        app.post("/api/v1/jobs").bearer_auth(token(session)).header("content-type", "application/json").body(body)
    };
    let mut held = Vec::new();
    for _ in 0..6 {
        let (parts, body) = tokio::sync::mpsc::channel::<std::io::Result<String>>(1);
        parts.send(Ok(" ".repeat(60 << 10))).await.unwrap();
        let body = futures_util::stream::unfold(body, async |mut body| Some((body.recv().await?, body)));
        let request = submit(&greedy, reqwest::Body::wrap_stream(Box::pin(body)));
        held.push((parts, tokio::spawn(request.send())));
    }
    // Five of them are what one may have: the sixth is refused.
    let all_but_one_wait = async {
        while held.iter().filter(|(_, request)| request.is_finished()).count() != 1 {
            tokio::task::yield_now().await
        }
    };
    timeout(Duration::from_secs(5), all_but_one_wait).await.expect("one of them is refused");
    let large = || " ".repeat(30 << 10) + r#"{"kind": "debug.echo"}"#;
    assert_eq!(send(submit(&greedy, large().into())).await.0, 503);
    assert_eq!(send(submit(&modest, large().into())).await.0, 202);
    for n_of_strangers in 0..2 {
        let refresh = app.post("/api/v1/auth/refresh").header("content-type", "application/json").body(large());
        assert_ne!(send(refresh).await.0, 503, "strangers have their own: {n_of_strangers}");
    }
}

#[tokio::test]
async fn connections_that_have_had_large_bodies_end_when_they_are_too_many() {
    // Two gulps of 128 KiB for each of the body's, so that two may stay.
    let app = TestApp::start_with(&[
        ("BODIES_MAX_BYTES", "128KiB"),
        ("MAX_BULK_BYTES", "128KiB"),
        ("MAX_BODY_BYTES", "64KiB"),
        ("MAX_PAYLOAD_BYTES", "32KiB"),
    ])
    .await;
    let body = " ".repeat(40 << 10);
    let head = format!(
        "POST /api/v1/auth/refresh HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut connections = Vec::new();
    for is_told_to_go in [false, false, true] {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        let answer = whole_answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert_eq!(answer.contains("connection: close"), is_told_to_go, "{answer}");
        connections.push(stream);
    }
    drop(connections);
}
