//! A publisher over the HTTP API: one keep-alive connection with one request under way, in the poll of the sockets.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::super::orders::Target;
use super::connect;
use super::slot::Kind;
use crate::client::{BodyRule, ResponseParser};

/// One read; answers to publications are short.
const SCRATCH_BYTES: usize = 8 * 1024;

#[derive(Debug)]
pub(super) struct HttpPublisher {
    peer: SocketAddr,
    token: Token,
    /// The request up to the value of Content-Length.
    head: String,
    stream: Option<TcpStream>,
    out: Vec<u8>,
    parser: ResponseParser,
    is_waiting: bool,
}

impl HttpPublisher {
    pub(super) fn new(target: &Target, path: &str, bearer: Option<&str>, registry: &Registry, token: Token) -> io::Result<Self> {
        let authorization = bearer.map(|bearer| format!("Authorization: Bearer {bearer}\r\n")).unwrap_or_default();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\n{authorization}Content-Type: application/json\r\nContent-Length: ",
            target.authority
        );
        let parser = ResponseParser::new(BodyRule::Expected);
        let mut publisher = Self { peer: target.peer, token, head, stream: None, out: Vec::new(), parser, is_waiting: false };
        publisher.connect(registry)?;
        Ok(publisher)
    }

    pub(super) fn is_free(&self) -> bool {
        !self.is_waiting
    }

    pub(super) fn send(&mut self, data: &str, registry: &Registry) -> io::Result<()> {
        self.is_waiting = true;
        if self.stream.is_none() {
            self.connect(registry)?;
        }
        let body = format!(r#"{{"data":{data}}}"#);
        self.out.extend_from_slice(format!("{}{}\r\n\r\n{body}", self.head, body.len()).as_bytes());
        self.flush()
    }

    /// The status of the answer when it is whole.
    pub(super) fn on_event(&mut self, event: &Event) -> io::Result<Option<u16>> {
        if event.is_writable() {
            self.flush()?;
        }
        if !event.is_readable() {
            return Ok(None);
        }
        let mut answered = None;
        let mut scratch = [0; SCRATCH_BYTES];
        loop {
            let Some(stream) = &mut self.stream else { return Ok(answered) };
            match stream.read(&mut scratch) {
                Ok(0) if self.is_waiting => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(0) => self.stream = None,
                Ok(n_read) => {
                    let response = self.parser.feed(&scratch[..n_read], &mut |_| ()).map_err(io::Error::other)?;
                    if let Some(response) = response {
                        answered = Some(response.status);
                        self.is_waiting = false;
                        if !response.keep_alive {
                            self.stream = None;
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(answered),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets go of the connection; says how many requests were under way.
    pub(super) fn close(&mut self) -> u32 {
        self.stream = None;
        self.out.clear();
        u32::from(std::mem::take(&mut self.is_waiting))
    }

    fn connect(&mut self, registry: &Registry) -> io::Result<()> {
        let mut stream = connect::begin(self.peer, None, Kind::Reader)?;
        registry.register(&mut stream, self.token, Interest::READABLE | Interest::WRITABLE)?;
        self.parser = ResponseParser::new(BodyRule::Expected);
        self.stream = Some(stream);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        while !self.out.is_empty() {
            match stream.write(&self.out) {
                Ok(n_written) => drop(self.out.drain(..n_written)),
                // Not connected yet, or full: the poll says when to go on.
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
