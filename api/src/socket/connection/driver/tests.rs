//! A command that panics, which none is known to do: so it is put there.

use super::*;
use crate::{
    server,
    socket::{Hub, connection::Wire, serve::serve},
};
use actix_web::{
    rt::net::{TcpListener, TcpStream},
    web::Data,
};
use shared::testing::TestStores;
use std::net::Ipv4Addr;
use tokio::io::AsyncReadExt;

#[actix_web::test]
async fn a_command_that_panics_ends_its_connection_with_3004() {
    let stores = TestStores::create().await;
    let state = Data::new(server::open_state(stores.settings(&[])).await.unwrap());
    let hub = Hub::start(state.clone(), "test".to_owned());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let mut driver = Driver::new(hub.open(Ipv4Addr::LOCALHOST.into(), Wire::new(stream), state.sockets.enter().unwrap()));
    driver.work = Some(Box::pin(async { panic!("on purpose") }));
    let serving = actix_web::rt::spawn(serve(driver, Bytes::new()));
    let mut frame = [0; 4];
    peer.read_exact(&mut frame).await.unwrap();
    assert_eq!((frame[0], u16::from_be_bytes([frame[2], frame[3]])), (0x88, 3_004));
    drop(peer);
    serving.await.unwrap();
    assert_eq!(state.sockets.n_open(), 0);
}
