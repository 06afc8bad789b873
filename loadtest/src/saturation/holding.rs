//! Opens connections until no more are let in, and holds them.

use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::error::Error;
use crate::generator::SourceAddresses;

/// Refusals in a row after which no more are tried.
const REFUSALS_MAX: u32 = 20;
/// The same of connections that get no answer, each of which takes its time.
const UNANSWERED_MAX: u32 = 3;
/// Longest answer that is read.
const ANSWER_BYTES: usize = 16 << 10;

/// How a connection is opened, and what lets it in.
pub(super) struct Way {
    pub(super) peer: SocketAddr,
    pub(super) request: Vec<u8>,
    /// The status that lets it in.
    pub(super) status: &'static str,
    /// What a socket says then: one that does not sign in is soon closed again.
    pub(super) sign_in: Option<Vec<u8>>,
    /// Longest that each answer may take, or it counts as not let in: who stands in the backlog is not served.
    pub(super) within: Duration,
}

/// Connections that were let in.
#[derive(Debug, Default)]
pub(super) struct Held {
    streams: Vec<Socket>,
    pub(super) refused: u32,
    /// What was answered to the first that was refused.
    pub(super) refusal: Option<String>,
    pub(super) took: Duration,
}

/// Why one was not let in.
#[derive(Debug)]
enum Refusal {
    Told(String),
    Unanswered,
}

impl Refusal {
    fn shown(self, within: Duration) -> String {
        match self {
            Self::Told(told) => told,
            Self::Unanswered => format!("nothing within {within:?}: it waits in the backlog"),
        }
    }

    /// Of how many more of the kind it is worth a try.
    fn weight(&self) -> u32 {
        match self {
            Self::Told(_) => 1,
            Self::Unanswered => REFUSALS_MAX.div_ceil(UNANSWERED_MAX),
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
            true => Self::Unanswered,
            false => Self::Told(error.to_string()),
        }
    }
}

impl Held {
    pub(super) fn n(&self) -> u32 {
        u32::try_from(self.streams.len()).unwrap_or(u32::MAX)
    }

    /// Forgets those that the server has closed meanwhile.
    pub(super) fn keep_open(&mut self) {
        let is_open = |stream: &Socket| {
            let mut byte = [MaybeUninit::uninit(); 1];
            match stream.set_nonblocking(true).and_then(|()| stream.peek(&mut byte)) {
                Ok(n_there) => n_there > 0,
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            }
        };
        self.streams.retain(is_open);
    }
}

impl Way {
    /// Opens up to `max` connections.
    pub(super) fn open_all(&self, max: u32, run_idx: u32, mut look: impl FnMut(u32)) -> Result<Held, Error> {
        let (mut held, begun, mut in_a_row) = (Held::default(), Instant::now(), 0);
        let sources = SourceAddresses::for_run(self.peer, max, run_idx);
        for idx in 0..max {
            match self.open(sources.of_connection(idx)) {
                Ok(stream) => {
                    held.streams.push(stream);
                    in_a_row = 0;
                }
                Err(refusal) => {
                    held.refused += 1;
                    in_a_row += refusal.weight();
                    held.refusal.get_or_insert_with(|| refusal.shown(self.within));
                    if in_a_row >= REFUSALS_MAX {
                        break;
                    }
                }
            }
            look(idx + 1);
        }
        held.took = begun.elapsed();
        match held.streams.is_empty() {
            true => Err(Error::failed(format!("none of the connections was let in: {}", held.refusal.unwrap_or_default()))),
            false => Ok(held),
        }
    }

    /// Whether a new one is let in now.
    pub(super) fn is_open(&self) -> bool {
        self.open(None).is_ok()
    }

    fn open(&self, source: Option<IpAddr>) -> Result<Socket, Refusal> {
        let mut socket = Socket::new(Domain::for_address(self.peer), Type::STREAM, None)?;
        if let Some(source) = source {
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.connect_timeout(&self.peer.into(), self.within)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_read_timeout(Some(self.within))?;
        socket.write_all(&self.request)?;
        let head = heard(&mut socket, |text| text.contains("\r\n\r\n"))?;
        let first = head.lines().next().unwrap_or("the connection was closed");
        if !first.strip_prefix("HTTP/1.1 ").is_some_and(|status| status.starts_with(self.status)) {
            return Err(Refusal::Told(first.to_owned()));
        }
        if let Some(sign_in) = &self.sign_in {
            socket.write_all(sign_in)?;
            let reply = heard(&mut socket, |text| text.contains('}'))?;
            if !reply.contains("\"connect\"") {
                let words: String = reply.chars().filter(|letter| !letter.is_control()).collect();
                return Err(Refusal::Told(format!("at signing in: {words}")));
            }
        }
        Ok(socket)
    }
}

/// What comes until it is enough, or the connection ends.
fn heard(socket: &mut Socket, is_enough: fn(&str) -> bool) -> io::Result<String> {
    let (mut text, mut chunk) = (String::new(), [0; 1_024]);
    while text.len() < ANSWER_BYTES && !is_enough(&text) {
        match socket.read(&mut chunk)? {
            0 => break,
            n_read => text.push_str(&String::from_utf8_lossy(&chunk[..n_read])),
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that does `serve` to the connections that come, one after the other, keeps those it is given back, and takes no more.
    fn server(n_taken: usize, serve: impl Fn(usize, &mut Socket) + Send + 'static) -> Way {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for number in 0..n_taken {
                let mut stream = Socket::from(listener.accept().unwrap().0);
                heard(&mut stream, |text| text.contains("\r\n\r\n")).unwrap();
                serve(number, &mut stream);
                kept.push(stream);
            }
            // Until the test is over.
            let _ = heard(&mut kept[0], |_| false);
        });
        Way { peer, request: b"GET / HTTP/1.1\r\n\r\n".to_vec(), status: "101", sign_in: None, within: Duration::from_millis(200) }
    }

    #[test]
    fn a_socket_is_let_in_once_it_is_signed_in() {
        let way = server(2, |number, stream| {
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").unwrap();
            assert_eq!(heard(stream, |text| text.contains('!')).unwrap(), "a token!");
            stream.write_all([b"{\"connect\":{}}".as_slice(), b"{\"error\":{\"code\":101}}"][number]).unwrap();
        });
        let held = Way { sign_in: Some(b"a token!".to_vec()), ..way }.open_all(2, 0, |_| ()).unwrap();
        assert_eq!((held.n(), held.refused), (1, 1));
        assert!(held.refusal.as_ref().is_some_and(|told| told.contains("101") && told.contains("signing in")), "{held:?}");
    }

    #[test]
    fn who_is_not_taken_from_the_backlog_counts_as_refused_and_who_is_closed_is_not_held() {
        let way = server(2, |number, stream| {
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").unwrap();
            if number == 1 {
                stream.shutdown(std::net::Shutdown::Both).unwrap();
            }
        });
        let mut held = way.open_all(50, 0, |_| ()).unwrap();
        assert_eq!((held.n(), held.refused), (2, UNANSWERED_MAX));
        assert!(held.refusal.as_ref().is_some_and(|told| told.contains("backlog")), "{held:?}");
        held.keep_open();
        assert_eq!(held.n(), 1);
    }
}
