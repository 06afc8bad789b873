//! A WebSocket as a client has it: texts out, and what the server says, line by line. A million lines are read in seconds.

use memchr::memmem;
use serde_json::Value;
use std::{io, net::SocketAddr, ops::Range};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
    /// Where the next frame begins.
    at: usize,
    /// What is left of a frame's lines.
    lines: Range<usize>,
    /// What it was closed with, once it is.
    closed: Option<u16>,
}

/// One thing that the server said.
#[derive(Debug)]
pub(super) enum Said {
    Publication {
        offset: u64,
        data: u32,
    },
    /// `None` when all is well.
    Reply {
        id: u64,
        error: Option<u64>,
        result: Value,
    },
    Unsubscribed(u16),
    Ping,
    Other,
    /// The connection is over: its close code, or 0.
    Closed(u16),
}

impl Wire {
    pub(super) async fn open(address: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET /connection/websocket HTTP/1.1\r\nhost: {address}\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut wire = Self { stream, read: Vec::new(), at: 0, lines: 0..0, closed: None };
        loop {
            if let Some(end) = memmem::find(&wire.read, b"\r\n\r\n") {
                wire.at = end + 4;
                break;
            }
            wire.read_more().await?;
        }
        if wire.read.starts_with(b"HTTP/1.1 101 ") { Ok(wire) } else { Err(io::Error::other("no upgrade")) }
    }

    pub(super) async fn send(&mut self, text: &str) -> io::Result<()> {
        let mut frame = vec![0x81];
        match u16::try_from(text.len()).expect("texts of tests are short") {
            len @ 0..126 => frame.push(0x80 | len as u8),
            len => {
                frame.push(0x80 | 126);
                frame.extend(len.to_be_bytes());
            }
        }
        frame.extend(MASK);
        frame.extend(text.bytes().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.stream.write_all(&frame).await
    }

    pub(super) async fn next(&mut self) -> Said {
        loop {
            if let Some(code) = self.closed {
                return Said::Closed(code);
            }
            if !self.lines.is_empty() {
                let rest = &self.read[self.lines.clone()];
                let len = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
                let said = understand(&rest[..len]);
                self.lines.start = (self.lines.start + len + 1).min(self.lines.end);
                return said;
            }
            match self.next_frame() {
                Some((1, payload)) => self.lines = payload,
                Some((8, payload)) => {
                    let code = self.read.get(payload.start..payload.start + 2).map_or(0, |code| u16::from_be_bytes([code[0], code[1]]));
                    self.closed = Some(code);
                }
                Some((opcode, _)) => panic!("opcode {opcode}"),
                None if self.read_more().await.is_err() => self.closed = Some(0),
                None => {}
            }
        }
    }

    /// Opcode and place of the payload.
    fn next_frame(&mut self) -> Option<(u8, Range<usize>)> {
        let frame = &self.read[self.at..];
        let (len, head_len) = match *frame.get(1)? {
            126 => (usize::from(u16::from_be_bytes(frame.get(2..4)?.try_into().ok()?)), 4),
            127 => (usize::try_from(u64::from_be_bytes(frame.get(2..10)?.try_into().ok()?)).ok()?, 10),
            len => (usize::from(len), 2),
        };
        let payload = self.at + head_len..self.at + head_len + len;
        if self.read.len() < payload.end {
            return None;
        }
        self.at = payload.end;
        Some((frame[0] & 0x0F, payload))
    }

    async fn read_more(&mut self) -> io::Result<()> {
        self.read.drain(..self.at);
        self.at = 0;
        self.read.reserve(16 << 10);
        if self.stream.read_buf(&mut self.read).await? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

/// Publications are many and have numbers for data, so that they are not parsed.
fn understand(line: &[u8]) -> Said {
    if line == b"{}" {
        return Said::Ping;
    }
    if let Some(at) = memmem::find(line, b"\"pub\":{") {
        let field = |name: &[u8]| memmem::find(&line[at..], name).map(|field| number(&line[at + field + name.len()..]));
        let (offset, data) = (field(b"\"offset\":").expect("it is kept"), field(b"\"data\":").expect("it has data"));
        return Said::Publication { offset, data: u32::try_from(data).expect("data are small numbers") };
    }
    let mut object: Value = serde_json::from_slice(line).expect("every line is JSON");
    if let Some(code) = object.pointer("/push/unsubscribe/code") {
        return Said::Unsubscribed(u16::try_from(code.as_u64().expect("a code is a number")).expect("a code has four digits"));
    }
    match object["id"].as_u64() {
        Some(id) => Said::Reply { id, error: object.pointer("/error/code").and_then(Value::as_u64), result: object.take() },
        None => Said::Other,
    }
}

fn number(digits: &[u8]) -> u64 {
    digits.iter().take_while(|digit| digit.is_ascii_digit()).fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}
