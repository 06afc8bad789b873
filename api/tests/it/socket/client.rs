//! A WebSocket client that sees every frame and can send wrong ones.

use crate::support::TestApp;
use serde_json::{Value, json};
use std::{collections::VecDeque, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(20);
const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

/// What the server sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Received {
    Text(String),
    Pong(Vec<u8>),
    Close(u16, String),
    /// The connection ended.
    End,
}

pub(crate) struct Socket {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    /// Objects of a frame that held several.
    objects: VecDeque<Value>,
    next_id: u32,
    /// Pushes that came while a reply was waited for.
    pub(crate) pushes: VecDeque<Value>,
}

/// The head that the server answered a handshake with.
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Socket {
    /// Upgraded, and nothing said yet.
    pub(crate) async fn open(app: &TestApp) -> Self {
        Self::open_at(app.address).await
    }

    pub(crate) async fn open_at(address: SocketAddr) -> Self {
        let (head, socket) = Self::handshake(address, "/connection/websocket", "").await;
        assert_eq!(head.status, 101, "{}", head.text);
        socket
    }

    /// Sends a handshake with further header lines, and gives what was answered.
    pub(crate) async fn handshake(address: SocketAddr, path: &str, headers: &str) -> (Head, Self) {
        let mut socket = Self::raw(address).await;
        socket.send_bytes(handshake_request(address, path, headers).as_bytes()).await;
        (socket.head().await, socket)
    }

    /// A connection on which nothing was sent.
    pub(crate) async fn raw(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    /// Upgraded, for a client whose system takes and keeps little for it.
    pub(crate) async fn narrow(app: &TestApp) -> Self {
        Self::narrow_at(app.address).await
    }

    pub(crate) async fn narrow_at(address: SocketAddr) -> Self {
        let narrow = TcpSocket::new_v4().unwrap();
        narrow.set_recv_buffer_size(4_096).unwrap();
        narrow.set_send_buffer_size(4_096).unwrap();
        let mut socket = Self::over(narrow.connect(address).await.unwrap());
        socket.send_bytes(handshake_request(address, "/connection/websocket", "").as_bytes()).await;
        assert_eq!(socket.head().await.status, 101);
        socket
    }

    fn over(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new(), objects: VecDeque::new(), next_id: 0, pushes: VecDeque::new() }
    }

    /// The head of the next answer.
    pub(crate) async fn head(&mut self) -> Head {
        let text = self.skip_past(b"\r\n\r\n").await;
        Head { status: text[9..12].parse().unwrap(), text }
    }

    /// Everything up to `end`, and `end`.
    async fn skip_past(&mut self, end: &[u8]) -> String {
        let after = loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                break at + end.len();
            }
            assert!(self.read_more().await, "the connection ended in {:?}", String::from_utf8_lossy(&self.buffer));
        };
        String::from_utf8(self.buffer.drain(..after).collect()).unwrap()
    }

    /// Drops what comes before `begin`.
    pub(crate) async fn skip_to(&mut self, begin: &[u8]) {
        self.skip_past(begin).await;
        self.buffer.splice(..0, begin.iter().copied());
    }

    /// What comes up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> String {
        while self.read_more().await {}
        String::from_utf8(std::mem::take(&mut self.buffer)).unwrap()
    }

    /// Connected without a token.
    pub(crate) async fn anonymous(app: &TestApp) -> Self {
        let mut socket = Self::open(app).await;
        socket.ask("connect", json!({})).await.unwrap();
        socket
    }

    pub(crate) async fn signed_in(app: &TestApp, token: &str) -> Self {
        let mut socket = Self::open(app).await;
        socket.ask("connect", json!({"token": token})).await.unwrap();
        socket
    }

    async fn read_more(&mut self) -> bool {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await.expect("the server says something in time");
        matches!(read, Ok(n) if n > 0)
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn send_frame(&mut self, first_byte: u8, payload: &[u8]) {
        self.send_bytes(&masked(first_byte, payload)).await;
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.send_frame(0x81, text.as_bytes()).await;
    }

    pub(crate) async fn receive(&mut self) -> Received {
        loop {
            if let Some(received) = self.take_frame() {
                return received;
            }
            if !self.read_more().await {
                return Received::End;
            }
        }
    }

    fn take_frame(&mut self) -> Option<Received> {
        let [first, second, rest @ ..] = &*self.buffer else { return None };
        let (len, head_len) = match (second, rest) {
            (126, [a, b, ..]) => (usize::from(u16::from_be_bytes([*a, *b])), 4),
            (127, [a, b, c, d, e, f, g, h, ..]) => (usize::try_from(u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h])).unwrap(), 10),
            (126 | 127, _) => return None,
            (len, _) => (usize::from(*len), 2),
        };
        let opcode = first & 0x0F;
        let payload = self.buffer.get(head_len..head_len + len)?.to_vec();
        self.buffer.drain(..head_len + len);
        Some(match opcode {
            1 => Received::Text(String::from_utf8(payload).unwrap()),
            8 => {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                Received::Close(code, String::from_utf8(payload[2..].to_vec()).unwrap())
            }
            10 => Received::Pong(payload),
            other => panic!("opcode {other}"),
        })
    }

    /// The next object, with pings answered.
    pub(crate) async fn next_object(&mut self) -> Value {
        loop {
            if let Some(object) = self.objects.pop_front() {
                return object;
            }
            match self.receive().await {
                Received::Text(text) if text == "{}" => self.send_text("{}").await,
                Received::Text(text) => self.objects.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap())),
                other @ (Received::Pong(_) | Received::Close(..) | Received::End) => panic!("an object was waited for, and {other:?} came"),
            }
        }
    }

    /// Sends a command, and gives its result or its error; pushes are kept.
    pub(crate) async fn ask(&mut self, method: &str, request: Value) -> Result<Value, Value> {
        let id = self.tell(method, request).await;
        self.reply_to(id, method).await
    }

    /// Sends a command, and gives its id.
    pub(crate) async fn tell(&mut self, method: &str, request: Value) -> u32 {
        self.next_id += 1;
        self.send_text(&json!({"id": self.next_id, method: request}).to_string()).await;
        self.next_id
    }

    pub(crate) async fn reply_to(&mut self, id: u32, method: &str) -> Result<Value, Value> {
        loop {
            let mut object = self.next_object().await;
            if object.get("push").is_some() {
                self.pushes.push_back(object["push"].take());
                continue;
            }
            assert_eq!(object["id"], id, "replies come in order: {object}");
            return match object.get_mut("error") {
                Some(error) => Err(error.take()),
                None => Ok(object.get_mut(method).unwrap_or_else(|| panic!("a reply to {method}")).take()),
            };
        }
    }

    /// The next push, `{"channel":…,"<kind>":…}`.
    pub(crate) async fn next_push(&mut self) -> Value {
        if let Some(push) = self.pushes.pop_front() {
            return push;
        }
        let mut object = self.next_object().await;
        assert!(object.get("push").is_some(), "a push was waited for, and {object} came");
        object["push"].take()
    }

    /// The code that the server closes with; whatever comes before is dropped.
    pub(crate) async fn closed(&mut self) -> u16 {
        loop {
            match self.receive().await {
                Received::Close(code, reason) => {
                    assert!(serde_json::from_str::<Value>(&reason).is_err(), "a reason is never JSON: {reason}");
                    return code;
                }
                Received::End => panic!("the connection ended without a close frame"),
                Received::Text(_) | Received::Pong(_) => {}
            }
        }
    }

    /// Waits for the end of the connection.
    pub(crate) async fn ended(&mut self) {
        while self.receive().await != Received::End {}
    }
}

pub(crate) fn handshake_request(address: SocketAddr, path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

/// A frame as a client has to send it.
pub(crate) fn masked(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first_byte];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | u8::try_from(len).unwrap()),
        len @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}
