//! Frames that break RFC 6455, and what a connection answers them with. The neighbours notice nothing.

use super::client::{Received, Socket, masked};
use crate::support::TestApp;
use rstest::rstest;
use serde_json::json;

#[rstest]
#[case::unmasked(vec![0x81, 0x02, b'{', b'}'], 1002)]
#[case::reserved_bits(masked(0xC1, b"{}"), 1002)]
#[case::unknown_opcode(masked(0x83, b"{}"), 1002)]
#[case::fragmented_control(masked(0x09, b""), 1002)]
#[case::long_control(masked(0x89, &[0; 126]), 1002)]
#[case::continuation_of_nothing(masked(0x80, b"{}"), 1002)]
#[case::invalid_close(masked(0x88, &[0x00, 0x01]), 1002)]
#[case::invalid_utf8(masked(0x81, &[0xc3, 0x28]), 1007)]
#[case::oversize(masked(0x81, &[b' '; 2_000]), 1009)]
#[case::oversize_in_fragments([masked(0x01, &[b' '; 1_000]), masked(0x80, &[b' '; 1_000])].concat(), 1009)]
#[case::binary(masked(0x82, b"{}"), 3506)]
#[tokio::test]
async fn a_frame_against_the_rules_ends_its_connection_alone(#[case] bytes: Vec<u8>, #[case] code: u16) {
    let app = TestApp::start_with(&[("WS_ANONYMOUS", "on"), ("WS_FRAME_MAX_BYTES", "1KiB")]).await;
    let mut neighbour = Socket::anonymous(&app).await;
    let mut wrong = Socket::anonymous(&app).await;
    wrong.send_bytes(&bytes).await;
    assert_eq!(wrong.closed().await, code);
    wrong.ended().await;
    neighbour.ask("rpc", json!({"method": "time"})).await.unwrap();
}

#[tokio::test]
async fn a_ping_of_websocket_is_answered_between_fragments_too() {
    let app = TestApp::start_with(&[("WS_ANONYMOUS", "on")]).await;
    let mut socket = Socket::anonymous(&app).await;
    socket.send_frame(0x01, br#"{"id":7,"rp"#).await;
    socket.send_frame(0x89, b"are you there?").await;
    assert_eq!(socket.receive().await, Received::Pong(b"are you there?".to_vec()));
    socket.send_frame(0x80, br#"c":{"method":"time"}}"#).await;
    assert_eq!(socket.next_object().await["id"], 7);
}

#[tokio::test]
async fn a_goodbye_is_returned_and_ends_the_connection_at_once() {
    let app = TestApp::start_with(&[("WS_ANONYMOUS", "on")]).await;
    let mut socket = Socket::anonymous(&app).await;
    socket.send_frame(0x88, &[0x03, 0xe8, b'b', b'y', b'e']).await;
    assert_eq!(socket.closed().await, 1000);
    socket.ended().await;
    while app.state.sockets.n_open() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_flood_of_pings_is_closed() {
    let app = TestApp::start_with(&[("WS_ANONYMOUS", "on"), ("WS_COMMANDS_PER_S", "10")]).await;
    let mut socket = Socket::anonymous(&app).await;
    socket.send_bytes(&masked(0x89, b"").repeat(1_000)).await;
    assert_eq!(socket.closed().await, 3013);
}
