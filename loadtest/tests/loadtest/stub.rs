//! A TCP server that answers each request as its script says, and counts.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What the stub got.
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
    /// Number of this request over all connections, from 0.
    pub(crate) number: u64,
}

/// What the stub does about it.
pub(crate) enum Reply {
    /// Writes the pieces one by one, and reads on.
    Pieces(Vec<Vec<u8>>),
    /// Writes the bytes, and closes.
    ThenClose(Vec<u8>),
    /// Reads on and never answers.
    Nothing,
}

impl Reply {
    pub(crate) fn json(status: u16, body: &str) -> Self {
        let length = body.len();
        let head = format!("HTTP/1.1 {status} Status\r\nContent-Length: {length}\r\n\r\n");
        Reply::Pieces(vec![(head + body).into_bytes()])
    }

    pub(crate) fn ok() -> Self {
        Reply::json(200, "{}")
    }
}

type Script = dyn Fn(&Request) -> Reply + Send + Sync;

/// Counts of a stub.
#[derive(Default)]
struct Seen {
    requests: AtomicU64,
    connections: AtomicU64,
    lines: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

pub(crate) struct Stub {
    address: SocketAddr,
    seen: Arc<Seen>,
}

impl Stub {
    pub(crate) fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let script: Arc<Script> = Arc::new(script);
        let for_thread = Arc::clone(&seen);
        std::thread::spawn(move || accept(&listener, &for_thread, &script));
        Self { address, seen }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn n_requests(&self) -> u64 {
        self.seen.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn n_connections(&self) -> u64 {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// The request lines in the order they came.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen.lines.lock().unwrap().clone()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.seen.is_over.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then ends.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(listener: &TcpListener, seen: &Arc<Seen>, script: &Arc<Script>) {
    for stream in listener.incoming() {
        if seen.is_over.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { return };
        seen.connections.fetch_add(1, Ordering::SeqCst);
        let (seen, script) = (Arc::clone(seen), Arc::clone(script));
        std::thread::spawn(move || serve(stream, &seen, &script));
    }
}

/// Serves one connection until either side closes.
fn serve(stream: TcpStream, seen: &Seen, script: &Arc<Script>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    while let Some(request) = read_request(&mut reader, seen) {
        seen.lines.lock().unwrap().push(request.line.clone());
        match script(&request) {
            Reply::Pieces(pieces) => {
                for piece in pieces {
                    writer.write_all(&piece).ok()?;
                }
            }
            Reply::ThenClose(bytes) => return writer.write_all(&bytes).ok(),
            Reply::Nothing => {}
        }
    }
    None
}

fn read_request(reader: &mut BufReader<TcpStream>, seen: &Seen) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let length_of = |line: &String| line.strip_prefix("Content-Length: ")?.parse().ok();
    let n_body = lines.iter().find_map(length_of).unwrap_or(0);
    let mut body = vec![0; n_body];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        line: lines.remove(0),
        headers: lines,
        body: String::from_utf8(body).ok()?,
        number: seen.requests.fetch_add(1, Ordering::SeqCst),
    })
}
