//! `GET /files/{id}/content`: ranges, conditions, headers, and readers that do not read.

use super::*;
use rstest::rstest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const CONTENT: &[u8] = b"0123456789";

#[tokio::test]
async fn a_content_is_for_saving_and_for_nothing_else() {
    let world = World::new().await;
    let file = world.uploaded("Straße.html", b"<!DOCTYPE html><script>alert(1)</script>").await;
    let response = world.get(&format!("/files/{}/content", id_of(&file))).header("accept-encoding", "gzip").send().await.unwrap();
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    assert_eq!(header("content-type"), "text/html");
    assert_eq!(header("content-disposition"), "attachment; filename=\"Stra_e.html\"; filename*=UTF-8''Stra%C3%9Fe.html");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("content-security-policy"), "sandbox; default-src 'none'");
    assert_eq!((header("accept-ranges").as_str(), header("content-encoding").as_str()), ("bytes", ""));
    assert_eq!((header("cache-control").as_str(), header("content-length").as_str()), ("no-store", "40"));
}

#[rstest]
#[case::some("bytes=2-4", 206, "bytes 2-4/10", "234")]
#[case::end("bytes=-3", 206, "bytes 7-9/10", "789")]
#[case::rest("bytes=8-", 206, "bytes 8-9/10", "89")]
#[case::more_than_there_is("bytes=8-99", 206, "bytes 8-9/10", "89")]
#[case::several("bytes=0-1,4-5", 200, "", "0123456789")]
#[case::nonsense("bytes=x", 200, "", "0123456789")]
#[tokio::test]
async fn a_range_is_answered_with_itself(#[case] range: &str, #[case] status: u16, #[case] of: &str, #[case] body: &str) {
    let world = World::new().await;
    let file = world.uploaded("a.txt", CONTENT).await;
    let response = world.get(&format!("/files/{}/content", id_of(&file))).header("range", range).send().await.unwrap();
    let content_range = response.headers().get("content-range").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    assert_eq!((response.status().as_u16(), content_range.as_str()), (status, of));
    assert_eq!(response.text().await.unwrap(), body);
}

#[tokio::test]
async fn a_range_outside_says_how_much_there_is() {
    let world = World::new().await;
    let file = world.uploaded("a.txt", CONTENT).await;
    let request = || world.get(&format!("/files/{}/content", id_of(&file))).header("range", "bytes=10-");
    assert_eq!(request().send().await.unwrap().headers()["content-range"], "bytes */10");
    assert_eq!(send_for_problem(request()).await, (416, "range_not_satisfiable".to_owned()));
}

#[tokio::test]
async fn conditions_are_kept_to() {
    let world = World::new().await;
    let file = world.uploaded("a.txt", CONTENT).await;
    let get = || world.get(&format!("/files/{}/content", id_of(&file)));
    let etag = get().send().await.unwrap().headers()["etag"].clone();
    assert_eq!(etag.to_str().unwrap().trim_matches('"'), &file["sha256"].as_str().unwrap()[..32]);
    assert_eq!(get().header("if-none-match", &etag).send().await.unwrap().status(), 304);
    assert_eq!(get().header("if-none-match", "\"other\"").send().await.unwrap().status(), 200);
    assert_eq!(get().header("if-match", &etag).send().await.unwrap().status(), 200);
    assert_eq!(send_for_problem(get().header("if-match", "\"other\"")).await, (412, "precondition_failed".to_owned()));
    let ranged = |tag: &str| get().header("range", "bytes=0-1").header("if-range", tag);
    assert_eq!(ranged(etag.to_str().unwrap()).send().await.unwrap().status(), 206);
    assert_eq!(ranged("\"other\"").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_head_tells_the_same_without_the_content() {
    let world = World::new().await;
    let file = world.uploaded("a.txt", CONTENT).await;
    let path = format!("/api/v1/files/{}/content", id_of(&file));
    let head = world.app.request(Method::HEAD, &path).bearer_auth(token(&world.ada)).send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.headers()["content-length"].to_str().unwrap()), (200, "10"));
    // The connection is still good for another request.
    assert_eq!(world.get(&format!("/files/{}/content", id_of(&file))).send().await.unwrap().text().await.unwrap(), "0123456789");
}

#[tokio::test]
async fn a_lost_content_is_told_and_the_file_can_still_be_deleted() {
    let world = World::new().await;
    let file = world.uploaded("a.txt", CONTENT).await;
    world.objects().iter().for_each(|object| std::fs::remove_file(object).unwrap());
    let path = format!("/files/{}", id_of(&file));
    assert_eq!(send_for_problem(world.get(&format!("{path}/content"))).await, (500, "file_lost".to_owned()));
    assert_eq!(send(world.delete(&path)).await.0, 204);
}

#[tokio::test]
async fn downloads_beyond_the_limit_are_sent_away_and_a_reader_that_does_not_read_gives_its_turn_back() {
    let world = World::with(&[("DOWNLOADS_MAX", "1"), ("DOWNLOAD_STALL_S", "1")]).await;
    let file = world.uploaded("a.bin", &vec![7; 30 << 20]).await;
    let path = format!("/files/{}/content", id_of(&file));
    let mut reader = tokio::net::TcpStream::connect(world.app.address).await.unwrap();
    let head = format!("GET /api/v1{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", token(&world.ada));
    reader.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    reader.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    assert_eq!(send_for_problem(world.get(&path)).await, (503, "overloaded".to_owned()));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while world.get(&path).header("range", "bytes=0-0").send().await.unwrap().status() != 206 {
        assert!(std::time::Instant::now() < deadline, "its turn is free some time");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_is_asked_for_during_a_download_neither_ends_it_nor_gets_lost() {
    let world = World::with(&[("API_CLIENT_TIMEOUT_S", "2")]).await;
    let file = world.uploaded("a.bin", &vec![7; 30 << 20]).await;
    let mut stream = tokio::net::TcpStream::connect(world.app.address).await.unwrap();
    let ask = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n\r\n");
    let download = ask(&format!("/api/v1/files/{}/content", id_of(&file)), &format!("Authorization: Bearer {}", token(&world.ada)));
    stream.write_all(download.as_bytes()).await.unwrap();
    let (mut got, mut some) = (Vec::new(), vec![0; 64 << 10]);
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(100));
    for tick in 0..30 {
        ticks.tick().await;
        let n_read = stream.read(&mut some).await.unwrap();
        got.extend_from_slice(&some[..n_read]);
        if tick == 0 {
            stream.write_all(ask("/healthz", "X-During: the download").as_bytes()).await.unwrap();
        }
    }
    stream.write_all(ask("/healthz", "Connection: close").as_bytes()).await.unwrap();
    stream.read_to_end(&mut got).await.unwrap();
    assert!(got.len() > 30 << 20);
    assert_eq!(got.windows(12).filter(|part| part == b"HTTP/1.1 200").count(), 3);
}
