//! An API that is killed in the middle of an upload leaves nothing that anybody sees, and nothing for long.

use super::*;
use crate::{auth::credentials, process::ApiProcess, support::TestApp};
use nix::sys::signal::Signal;
use reqwest::Client;
use shared::files::sweep;
use std::time::{Duration, Instant};
use tokio::{io::AsyncWriteExt, net::TcpStream};

#[tokio::test]
async fn an_api_killed_in_the_middle_of_an_upload_leaves_nothing_that_is_seen_and_nothing_for_long() {
    let app = TestApp::start_with(&[("UPLOAD_TIMEOUT_S", "30"), ("FILE_UNFINISHED_S", "60")]).await;
    let ada = register(&app, "ada@example.org").await;
    let world = World { app, ada };
    let mut process = ApiProcess::start_with(&world.app, &[]).await;
    let login = Client::new().post(format!("{}/auth/login", process.url)).json(&credentials("ada@example.org"));
    let session: Value = login.send().await.unwrap().json().await.unwrap();

    let mut stream = TcpStream::connect(process.address).await.unwrap();
    let head = format!(
        "POST /api/v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nIdempotency-Key: once\r\n\
         Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: 9000000\r\n\r\n",
        token(&session)
    );
    let begun = [head.into_bytes(), part("name=\"file\"; filename=\"a.csv\"", &vec![b'x'; 1 << 20])].concat();
    stream.write_all(&begun).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while world.objects().iter().all(|object| object.metadata().is_ok_and(|object| object.len() < 512 << 10)) {
        assert!(Instant::now() < deadline, "it is being written");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    process.signal(Signal::SIGKILL);
    process.child.wait().await.unwrap();

    assert_eq!((world.objects().len(), world.count("files").await), (1, 1), "nobody was left to clean up");
    assert_eq!(send(world.get("/files")).await.1["items"], json!([]));
    let ctx = &world.app.state.ctx;
    sweep::keep_house(ctx).await.unwrap();
    assert_eq!(world.objects().len(), 1, "it might still be alive");
    ctx.clock.advance(time::Duration::seconds(61));
    sweep::keep_house(ctx).await.unwrap();
    assert_eq!((world.objects(), world.count("files").await), (Vec::new(), 0));
    let used: i64 = sqlx::query_scalar("SELECT sum(size_bytes)::bigint FROM file_usage").fetch_one(&ctx.pg).await.unwrap();
    assert_eq!(used, 0, "nor does it count");
    let again = upload(world.post("/files"), "a.csv", b"hello").header("idempotency-key", "once");
    assert_eq!(send(again).await.0, StatusCode::CREATED, "the key is free");
}
