//! Uploads that are too large, broken, cut off, or not what was asked for: each has its problem, and leaves nothing.

use super::*;
use futures_util::stream;
use rstest::rstest;
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const FILE: &str = "name=\"file\"; filename=\"a.csv\"";

#[rstest]
#[case::no_part(end(), 422, "validation_failed")]
#[case::another_part(part("name=\"upload\"; filename=\"a\"", b"x"), 422, "validation_failed")]
#[case::a_second_part([part(FILE, b"x"), part(FILE, b"y"), end()].concat(), 422, "validation_failed")]
#[case::a_field_behind([part(FILE, b"x"), part("name=\"title\"", b"y"), end()].concat(), 422, "validation_failed")]
#[case::empty_file([part(FILE, b""), end()].concat(), 422, "validation_failed")]
#[case::nothing(Vec::new(), 400, "invalid_multipart")]
#[case::no_form(b"hello".to_vec(), 400, "invalid_multipart")]
#[case::no_end(part(FILE, b"hello"), 400, "invalid_multipart")]
#[case::no_disposition(format!("--{BOUNDARY}\r\n\r\nx\r\n--{BOUNDARY}--\r\n").into_bytes(), 400, "invalid_multipart")]
#[case::endless_head([format!("--{BOUNDARY}\r\n").into_bytes(), b"X: y\r\n".repeat(100_000)].concat(), 400, "invalid_multipart")]
#[tokio::test]
async fn a_broken_form_has_its_problem_and_leaves_nothing(#[case] body: Vec<u8>, #[case] status: u16, #[case] code: &str) {
    let world = World::new().await;
    assert_eq!(send_for_problem(form(world.post("/files"), body)).await, (status, code.to_owned()));
    world.until_nothing_is_left().await;
}

#[rstest]
#[case::json("application/json")]
#[case::raw("text/csv")]
#[case::another_form("application/x-www-form-urlencoded")]
#[tokio::test]
async fn what_is_no_form_is_a_415(#[case] content_type: &str) {
    let world = World::new().await;
    let request = world.post("/files").header("content-type", content_type).body("{}");
    assert_eq!(send_for_problem(request).await, (415, "unsupported_media_type".to_owned()));
}

#[tokio::test]
async fn a_form_without_a_boundary_is_a_400() {
    let world = World::new().await;
    let request = world.post("/files").header("content-type", "multipart/form-data").body("x");
    assert_eq!(send_for_problem(request).await, (400, "invalid_multipart".to_owned()));
}

#[rstest]
#[case::folders("../../etc/passwd", "passwd")]
#[case::folders_of_windows("C:\\\\temp\\\\a.csv", "a.csv")]
#[case::parents("..", "file")]
#[case::encoded("..%2f..%2fetc%2fpasswd", "..%2f..%2fetc%2fpasswd")]
#[case::nothing("", "file")]
#[case::hidden(".htaccess", "htaccess")]
#[case::long(&"x".repeat(5_000), &"x".repeat(255))]
#[tokio::test]
async fn names_lead_nowhere(#[case] sent: &str, #[case] kept: &str) {
    let world = World::new().await;
    assert_eq!(world.uploaded(sent, b"x").await["name"], kept.trim_start_matches('.'));
    assert_eq!(world.objects().len(), 1, "it is in the store, under its id");
}

/// The request's head, and what the server says to it.
async fn answer_to(world: &World, length: &str, first: &[u8]) -> String {
    let mut stream = TcpStream::connect(world.app.address).await.unwrap();
    let head = format!(
        "POST /api/v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n{length}\r\n\r\n",
        token(&world.ada)
    );
    stream.write_all(&[head.as_bytes(), first].concat()).await.unwrap();
    let mut answer = vec![0; 1_000];
    let n_read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut answer)).await.expect("an answer comes").unwrap();
    String::from_utf8_lossy(&answer[..n_read]).into_owned()
}

#[tokio::test]
async fn two_gibibytes_are_refused_before_they_come() {
    let world = World::new().await;
    let answer = answer_to(&world, "Content-Length: 2147483648", &part(FILE, b"x")).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!((world.count("files").await, world.objects().len()), (0, 0));
}

#[tokio::test]
async fn two_gibibytes_of_unknown_length_are_refused_when_they_pass_the_limit() {
    let world = World::with(&[("MAX_UPLOAD_BYTES", "1MiB")]).await;
    let head = part(FILE, b"");
    let head = head[..head.len() - 2].to_vec();
    let endless =
        stream::iter((0..).map(move |n| Ok::<_, std::io::Error>(if n == 0 { head.clone() } else { vec![b'x'; 1 << 20] })).take(2_049));
    let request = form(world.post("/files"), reqwest::Body::wrap_stream(endless));
    let began = Instant::now();
    // The server answers and hangs up: a client that is still sending may see the one or the other.
    if let Ok(response) = request.send().await {
        assert_eq!(response.status(), 413);
    }
    assert!(began.elapsed() < Duration::from_secs(30), "nobody reads two gibibytes");
    world.until_nothing_is_left().await;
}

#[tokio::test]
async fn an_upload_that_is_cut_off_leaves_nothing() {
    let world = World::new().await;
    let mut stream = TcpStream::connect(world.app.address).await.unwrap();
    let head = format!(
        "POST /api/v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: 9000000\r\n\r\n",
        token(&world.ada)
    );
    stream.write_all(&[head.into_bytes(), part(FILE, &vec![b'x'; 1 << 20])].concat()).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while world.objects().is_empty() {
        assert!(Instant::now() < deadline, "it is being written");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(stream);
    world.until_nothing_is_left().await;
}

#[tokio::test]
async fn an_upload_that_stands_still_is_a_408() {
    let world = World::with(&[("API_CLIENT_TIMEOUT_S", "1")]).await;
    let answer = answer_to(&world, "Content-Length: 9000000", &part(FILE, b"xxx")).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    world.until_nothing_is_left().await;
}

#[tokio::test]
async fn a_quota_is_not_passed_by_uploads_at_once() {
    let world = World::with(&[("FILE_QUOTA_BYTES", "1MiB"), ("MAX_UPLOAD_BYTES", "1MiB")]).await;
    let content = vec![b'x'; 300 << 10];
    let all = (0..12).map(|_| async {
        let response = upload(world.post("/files"), "a.txt", &content).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap()["code"].as_str().map(str::to_owned))
    });
    let answers = futures_util::future::join_all(all).await;
    let n_taken = answers.iter().filter(|(status, _)| *status == 201).count();
    assert!((1..=3).contains(&n_taken), "{answers:?}");
    assert!(answers.iter().all(|(status, code)| *status == 201 || code.as_deref() == Some("quota_exceeded")), "{answers:?}");
    let stored = i64::try_from(n_taken).unwrap();
    assert_eq!((world.count("files").await, world.objects().len()), (stored, n_taken));
}

#[tokio::test]
async fn a_store_that_is_away_is_a_503_with_advice() {
    let nowhere = std::env::temp_dir().join(format!("{}-not-a-folder", uuid::Uuid::new_v4()));
    std::fs::write(&nowhere, b"").unwrap();
    let world = World::with(&[("STORAGE_URL", &format!("file://{}", nowhere.display()))]).await;
    let response = upload(world.post("/files"), "a.txt", b"x").send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    assert_eq!(response.json::<Value>().await.unwrap()["code"], "storage_unavailable");
    assert_eq!(world.count("files").await, 0);
    std::fs::remove_file(nowhere).unwrap();
}

#[tokio::test]
async fn uploads_beyond_the_limit_wait_for_their_turn() {
    let world = World::with(&[("UPLOADS_MAX", "1")]).await;
    let content = vec![b'x'; 200 << 10];
    let all = (0..8).map(|_| async { upload(world.post("/files"), "a.txt", &content).send().await.unwrap().status().as_u16() });
    assert_eq!(futures_util::future::join_all(all).await, [201; 8]);
}
