//! One socket that follows one channel and may block: for a run that wants to know what is told, and measures something else.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::wire::{self, Opcode, Upgrade};
use super::site::SOCKET_PATH;
use crate::error::Error;

/// Longest wait for the answer to a command.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 64 * 1024;

pub(crate) struct Follower {
    stream: TcpStream,
    unread: Vec<u8>,
    /// Lines of the protocol that nobody asked for yet, the oldest first.
    lines: std::collections::VecDeque<Value>,
    last_id: u32,
}

impl Follower {
    /// Connects as the holder of `token`.
    pub(crate) fn connect(peer: SocketAddr, authority: &str, token: &str) -> Result<Self, Error> {
        let stream = TcpStream::connect_timeout(&peer, ANSWER_WITHIN).map_err(Error::failed)?;
        let mut follower = Self { stream, unread: Vec::new(), lines: std::collections::VecDeque::new(), last_id: 0 };
        follower.upgrade(authority).map_err(|error| Error::failed(format!("opening a socket: {error}")))?;
        follower.call(&json!({"connect": {"token": token}}))?;
        Ok(follower)
    }

    pub(crate) fn subscribe(&mut self, channel: &str) -> Result<(), Error> {
        self.call(&json!({"subscribe": {"channel": channel}})).map(drop)
    }

    /// What is published next; `None` when nothing is until `deadline`.
    pub(crate) fn next(&mut self, deadline: Instant) -> Result<Option<Value>, Error> {
        loop {
            match self.line(deadline)? {
                None => return Ok(None),
                Some(mut line) => {
                    let data = line["push"]["pub"]["data"].take();
                    if !data.is_null() {
                        return Ok(Some(data));
                    }
                    if let Some(end) = line["push"].get("unsubscribe") {
                        return Err(Error::failed(format!("the subscription was ended: {end}")));
                    }
                }
            }
        }
    }

    fn upgrade(&mut self, authority: &str) -> io::Result<()> {
        self.stream.write_all(&wire::upgrade_request(authority, SOCKET_PATH))?;
        let deadline = Instant::now() + ANSWER_WITHIN;
        loop {
            match wire::read_upgrade(&self.unread).map_err(io::Error::other)? {
                Upgrade::Done { head_len } => {
                    self.unread.drain(..head_len);
                    return Ok(());
                }
                Upgrade::Refused { status } => return Err(io::Error::other(format!("it was refused with {status}"))),
                Upgrade::Awaited if self.read_more(deadline)? => {}
                Upgrade::Awaited => return Err(ErrorKind::TimedOut.into()),
            }
        }
    }

    /// The answer to a command. Publications that come before it are kept.
    fn call(&mut self, command: &Value) -> Result<Value, Error> {
        self.last_id += 1;
        let mut command = command.clone();
        command["id"] = self.last_id.into();
        self.send(Opcode::Text, command.to_string().as_bytes()).map_err(Error::failed)?;
        let deadline = Instant::now() + ANSWER_WITHIN;
        let mut kept = std::collections::VecDeque::new();
        let answer = loop {
            match self.line(deadline)? {
                None => break Err(Error::failed("a command on the socket was not answered in time")),
                Some(line) if line["id"] == self.last_id && line.get("error").is_some() => {
                    break Err(Error::failed(format!("a command on the socket was refused: {}", line["error"])));
                }
                Some(line) if line["id"] == self.last_id => break Ok(line),
                Some(line) => kept.push_back(line),
            }
        };
        kept.append(&mut self.lines);
        self.lines = kept;
        answer
    }

    /// The next line, heartbeats left out.
    fn line(&mut self, deadline: Instant) -> Result<Option<Value>, Error> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Ok(Some(line));
            }
            let found = wire::parse(&self.unread).map_err(Error::failed)?;
            let found = found.map(|frame| (frame.opcode, frame.payload.to_vec(), frame.len));
            match found {
                Some((opcode, payload, len)) => {
                    self.unread.drain(..len);
                    self.take(opcode, &payload)?;
                }
                None if self.read_more(deadline).map_err(Error::failed)? => {}
                None => return Ok(None),
            }
        }
    }

    fn take(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), Error> {
        match opcode {
            Opcode::Text => {}
            Opcode::Ping => return self.send(Opcode::Pong, payload).map_err(Error::failed),
            Opcode::Close => return Err(Error::failed(format!("the socket was closed with {}", wire::close_code(payload)))),
            Opcode::Binary | Opcode::Pong => return Ok(()),
        }
        for line in payload.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match line.trim_ascii() {
                b"{}" => self.send(Opcode::Text, b"{}").map_err(Error::failed)?,
                line => self.lines.push_back(serde_json::from_slice(line).map_err(Error::failed)?),
            }
        }
        Ok(())
    }

    fn send(&mut self, opcode: Opcode, payload: &[u8]) -> io::Result<()> {
        let mut frame = Vec::new();
        wire::write(&mut frame, opcode, payload);
        self.stream.write_all(&frame)
    }

    /// `false` when nothing came in time.
    fn read_more(&mut self, deadline: Instant) -> io::Result<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut scratch = vec![0; READ_BYTES];
        match self.stream.read(&mut scratch) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(n_read) => {
                self.unread.extend_from_slice(&scratch[..n_read]);
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => Ok(true),
            Err(error) => Err(error),
        }
    }
}
