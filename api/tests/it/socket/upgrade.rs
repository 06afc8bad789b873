//! Who gets a socket, and who is refused before there is one.

use super::client::{Socket, handshake_request, masked};
use crate::support::TestApp;
use rstest::rstest;

#[tokio::test]
async fn both_paths_open_a_socket_and_our_subprotocol_is_taken_if_it_is_offered() {
    let app = TestApp::start().await;
    for (path, headers, chosen) in [
        ("/connection/websocket", "", false),
        ("/ws", "sec-websocket-protocol: other, centrifuge-json\r\n", true),
        ("/ws", "sec-websocket-protocol: other\r\n", false),
    ] {
        let (head, _socket) = Socket::handshake(app.address, path, headers).await;
        assert_eq!(head.status, 101);
        assert!(head.text.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{}", head.text);
        assert_eq!(head.text.contains("sec-websocket-protocol: centrifuge-json"), chosen);
    }
}

#[rstest]
#[case::none("", 101)]
#[case::our_own("origin: http://{host}\r\n", 101)]
#[case::listed("origin: https://app.example.org\r\n", 101)]
#[case::foreign("origin: https://evil.example.org\r\n", 403)]
#[case::two("origin: https://app.example.org\r\norigin: https://evil.example.org\r\n", 403)]
#[case::hidden("origin: null\r\n", 403)]
#[tokio::test]
async fn pages_of_foreign_origins_are_refused(#[case] header: &str, #[case] status: u16) {
    let app = TestApp::start_with(&[("CORS_ORIGINS", "https://app.example.org")]).await;
    let (head, _) = Socket::handshake(app.address, "/connection/websocket", &header.replace("{host}", &app.address.to_string())).await;
    assert_eq!(head.status, status);
}

#[tokio::test]
async fn a_list_for_sockets_takes_the_place_of_the_general_one() {
    let app = TestApp::start_with(&[("CORS_ORIGINS", "https://a.example.org"), ("WS_ORIGINS", "https://b.example.org")]).await;
    for (origin, status) in [("https://a.example.org", 403), ("https://b.example.org", 101)] {
        let (head, _) = Socket::handshake(app.address, "/connection/websocket", &format!("origin: {origin}\r\n")).await;
        assert_eq!(head.status, status);
    }
}

#[tokio::test]
async fn what_is_no_handshake_is_a_problem() {
    let app = TestApp::start().await;
    let answer = app.get("/connection/websocket").send().await.unwrap();
    assert_eq!((answer.status(), &answer.headers()["sec-websocket-version"]), (400.try_into().unwrap(), &"13".parse().unwrap()));
    assert_eq!(app.post("/connection/websocket").send().await.unwrap().status(), 405);
}

#[rstest]
#[case::of_a_length("content-length: 8\r\n", 400)]
#[case::in_chunks("transfer-encoding: chunked\r\n", 400)]
#[case::empty("content-length: 0\r\n", 101)]
#[tokio::test]
async fn a_handshake_with_a_body_is_refused_before_the_upgrade(#[case] header: &str, #[case] status: u16) {
    let app = TestApp::start_with(&[("WS_ANONYMOUS", "on")]).await;
    let mut request = handshake_request(app.address, "/connection/websocket", header).into_bytes();
    request.extend(b"0\r\n\r\nGET");
    let mut socket = Socket::raw(app.address).await;
    socket.send_bytes(&request).await;
    assert_eq!(socket.head().await.status, status);
    assert!(status == 101 || app.state.sockets.n_open() == 0);
}

#[tokio::test]
async fn sockets_above_the_limit_are_sent_away_before_the_upgrade_and_get_in_when_others_leave() {
    let app = TestApp::start_with(&[("WS_MAX_CONNECTIONS", "2")]).await;
    let (first, _second) = (Socket::open(&app).await, Socket::open(&app).await);
    let (head, _) = Socket::handshake(app.address, "/connection/websocket", "").await;
    assert_eq!(head.status, 503);
    assert!(head.text.contains("retry-after: "), "{}", head.text);
    drop(first);
    while app.state.sockets.n_open() > 1 {
        tokio::task::yield_now().await;
    }
    Socket::open(&app).await;
}

#[tokio::test]
async fn sockets_that_come_too_fast_are_sent_away() {
    let app = TestApp::start_with(&[("WS_CONNECTS_PER_S", "1")]).await;
    let _first = Socket::open(&app).await;
    let (head, _) = Socket::handshake(app.address, "/connection/websocket", "").await;
    assert_eq!(head.status, 503);
    assert!(head.text.contains("retry-after: "), "{}", head.text);
}

#[tokio::test]
async fn a_process_that_stops_lets_nobody_in() {
    let app = TestApp::start().await;
    app.state.drain.begin();
    let (head, _) = Socket::handshake(app.address, "/connection/websocket", "").await;
    assert_eq!(head.status, 503);
    assert!(head.text.contains("retry-after: "), "{}", head.text);
}

#[tokio::test]
async fn what_is_sent_behind_the_handshake_is_heard() {
    let app = TestApp::start_with(&[("REALTIME_INSECURE", "on")]).await;
    let mut request = handshake_request(app.address, "/connection/websocket", "").into_bytes();
    request.extend(masked(0x81, br#"{"id":1,"connect":{}}"#));
    let mut socket = Socket::raw(app.address).await;
    socket.send_bytes(&request).await;
    assert_eq!(socket.head().await.status, 101);
    assert_eq!(socket.reply_to(1, "connect").await.unwrap()["ping"], 25);
}

#[tokio::test]
async fn a_request_before_the_handshake_is_answered_before_it() {
    let app = TestApp::start().await;
    let mut request = format!("GET /healthz HTTP/1.1\r\nhost: {}\r\n\r\n", app.address);
    request.push_str(&handshake_request(app.address, "/connection/websocket", ""));
    let mut socket = Socket::raw(app.address).await;
    socket.send_bytes(request.as_bytes()).await;
    assert_eq!(socket.head().await.status, 200);
    socket.skip_to(b"HTTP/1.1 ").await;
    assert_eq!(socket.head().await.status, 101);
}

#[tokio::test]
async fn who_wants_a_socket_where_there_is_none_has_the_whole_answer_and_the_end() {
    let app = TestApp::start().await;
    for (path, status) in [("/api/v1/nowhere", 404), ("/api/v1/queues", 401), ("/healthz", 200), ("/api-docs/openapi.json", 200)] {
        let (head, mut socket) = Socket::handshake(app.address, path, "").await;
        assert_eq!(head.status, status, "{path}: {}", head.text);
        assert!(head.text.to_lowercase().contains("connection: close"), "{}", head.text);
        assert!(socket.rest().await.trim_end().ends_with(['}', '0']), "{path}");
    }
}
