//! Frames that break RFC 6455, and what a connection answers them with. The neighbours notice nothing.

use super::client::{Received, Socket, masked};
use crate::support::TestApp;
use rstest::rstest;
use serde_json::json;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

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
#[case::empty_fragments([masked(0x01, b"{"), masked(0x00, b"").repeat(1_024)].concat(), 1009)]
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
async fn whoever_sends_many_commands_at_once_is_no_slow_reader_of_their_answers() {
    const COMMANDS: usize = 1_800;
    const MESSAGES_MAX: usize = 400;
    let app = TestApp::start_with(&[("WS_ANONYMOUS", "on"), ("WS_COMMANDS_PER_S", "0"), ("CHANNEL_LAYER_CAPACITY", "100")]).await;
    let mut socket = Socket::narrow(&app).await;
    socket.ask("connect", json!({})).await.unwrap();
    let message = masked(0x81, [r#"{"id":9,"rpc":{"method":"time"}}"#; COMMANDS].join("\n").as_bytes());
    let (mut reads, mut writes) = socket.stream.split();
    // Nothing is read until the server takes no more.
    let mut n_sent = 0;
    while let Ok(n_more) = timeout(Duration::from_millis(500), writes.write(&message[n_sent % message.len()..])).await {
        n_sent += n_more.unwrap();
        assert!(n_sent < MESSAGES_MAX * message.len(), "the server takes more than it can answer");
    }
    let rest = &message[n_sent % message.len()..];
    let n_commands = COMMANDS * (n_sent + rest.len()) / message.len();
    let (mut answers, mut n_answered) = (Vec::new(), 0);
    let receive = async {
        while n_answered < n_commands {
            assert!(reads.read_buf(&mut answers).await.unwrap() > 0, "closed after {n_answered} of {n_commands} answers");
            n_answered += answers.windows(6).filter(|text| text == b"\"id\":9").count();
            // The end may be half an answer.
            answers.drain(..answers.len().saturating_sub(5));
        }
    };
    let (sent, ()) = tokio::join!(writes.write_all(rest), receive);
    sent.unwrap();
}

#[tokio::test]
async fn a_flood_of_pings_is_closed() {
    let app = TestApp::start_with(&[("WS_ANONYMOUS", "on"), ("WS_COMMANDS_PER_S", "10")]).await;
    let mut socket = Socket::anonymous(&app).await;
    socket.send_bytes(&masked(0x89, b"").repeat(1_000)).await;
    assert_eq!(socket.closed().await, 3013);
}
