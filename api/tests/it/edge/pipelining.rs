//! Requests that are sent before the answers to those in front of them.

use crate::{
    auth::{register, token},
    support::TestApp,
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Sends `requests` at once, says that that was all, and returns the statuses of the answers.
async fn statuses(app: &TestApp, requests: &[&str]) -> Vec<String> {
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.write_all(requests.concat().as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answers = String::new();
    let read = timeout(Duration::from_secs(20), stream.read_to_string(&mut answers));
    read.await.expect("the connection ends when all is answered").unwrap();
    let heads = answers.split("HTTP/1.1 ").skip(1);
    heads.map(|head| head.split(' ').next().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn who_says_that_was_all_and_waits_for_a_job_is_answered_with_what_there_is() {
    let app = TestApp::start().await;
    let (bearer, job) = (token(&register(&app, "ada@example.org").await).to_owned(), r#"{"kind":"debug.echo"}"#);
    let submit = format!(
        "POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer}\r\nContent-Type: application/json\r\n\
        Prefer: wait=30\r\nContent-Length: {}\r\n\r\n{job}",
        job.len()
    );
    assert_eq!(statuses(&app, &[&submit]).await, ["202"]);
}

#[tokio::test]
async fn requests_that_come_at_once_are_answered_in_their_order() {
    let app = TestApp::start().await;
    let bearer = format!("Host: x\r\nAuthorization: Bearer {}\r\n", token(&register(&app, "ada@example.org").await));
    let job = r#"{"kind":"debug.echo","payload":"\n\n"}"#;
    let submit = format!("POST /api/v1/jobs HTTP/1.1\r\n{bearer}Content-Type: application/json\r\n");
    let large = format!(r#"{{"kind":"debug.echo","payload":"{}"}}"#, " ".repeat(40_000));
    let requests = [
        "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        "\r\n\r\nGET /nope HTTP/1.1\nHost: x\n\n",
        &format!("{submit}Content-Length: {}\r\n\r\n{job}", job.len()),
        &format!("{submit}Transfer-Encoding: chunked\r\n\r\n{:x};a=b\r\n{job}\r\n0\r\n\r\n", job.len()),
        &format!("{submit}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n", large.len()),
        &format!("{submit}Content-Length: {}\r\n\r\n{large}", large.len()),
        "POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
        "GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        &format!("GET /api/v1/auth/me HTTP/1.1\r\n{bearer}\r\n"),
        &format!("{submit}Prefer: wait=1\r\nContent-Length: {}\r\n\r\n{job}", job.len()),
        "DELETE /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    ];
    assert_eq!(statuses(&app, &requests).await, ["200", "404", "202", "202", "202", "202", "404", "200", "200", "202", "405"]);
}

#[tokio::test]
async fn however_many_come_at_once_all_are_answered() {
    let app = TestApp::start().await;
    let answers = statuses(&app, &["GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"; 2_000]).await;
    assert_eq!((answers.len(), answers.iter().all(|status| status == "200")), (2_000, true));
}

#[tokio::test]
async fn an_upload_is_whole_although_its_client_says_nothing_behind_it() {
    let app = TestApp::start().await;
    let session = register(&app, "ada@example.org").await;
    for n_bytes in [40_000, 120_000, 400_000, 120_000, 1_000_000] {
        let content = "a".repeat(n_bytes);
        let form = format!("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n{content}\r\n--b--\r\n");
        let head = format!(
            "POST /api/v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
             Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n",
            token(&session),
            form.len()
        );
        assert_eq!(statuses(&app, &[&head, &form]).await, ["201"], "{n_bytes} bytes");
    }
}
