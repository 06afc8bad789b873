//! Uploads under way while PostgreSQL restarts.

use super::*;
use crate::support::TestApp;
use shared::{
    pg::TRUSTED_FOR,
    testing::{Proxy, TestStores},
};
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

#[tokio::test]
async fn an_upload_outlives_a_restart_of_postgres_that_it_did_not_need() {
    let mut stores = TestStores::create().await;
    let url = stores.variables.iter_mut().find(|(name, _)| name == "DATABASE_URL").map(|(_, url)| url).unwrap();
    let (proxy, proxied) = Proxy::before(url).await;
    *url = proxied;
    let app = TestApp::serve(stores, &[("DB_ACQUIRE_TIMEOUT_MS", "10000")]).await;
    let ada = register(&app, "ada@example.org").await;
    let world = World { app, ada };
    let (first, rest) = (part("name=\"file\"; filename=\"a.csv\"", &vec![b'x'; 1 << 20]), end());
    let head = format!(
        "POST /api/v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {}\r\n\r\n",
        token(&world.ada),
        first.len() + rest.len()
    );
    let mut stream = TcpStream::connect(world.app.address).await.unwrap();
    stream.write_all(&[head.into_bytes(), first].concat()).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while world.objects().is_empty() {
        assert!(Instant::now() < deadline, "it is being written");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    proxy.refuse().await;
    timeout(Duration::from_secs(20), world.app.state.health.postgres.opened()).await.expect("PostgreSQL is away");
    // It takes longer to restart than a connection is trusted.
    tokio::time::sleep(TRUSTED_FOR).await;
    proxy.open();
    while world.app.state.health.postgres.is_open() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stream.write_all(&rest).await.unwrap();
    let mut answer = vec![0; 4 << 10];
    let n_read = timeout(Duration::from_secs(20), stream.read(&mut answer)).await.expect("an answer comes").unwrap();
    assert!(answer[..n_read].starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(&answer[..n_read]));
}
