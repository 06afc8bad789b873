//! Beginning a TCP connection without waiting for it.

use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

use super::slot::Kind;

/// A reader that never reads is met soon when the kernel does not read megabytes for it.
const STUCK_RECEIVE_BYTES: usize = 4_096;

/// A stream that becomes writable once it is connected, or has failed.
pub(super) fn begin(peer: SocketAddr, source: Option<IpAddr>, kind: Kind) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if kind == Kind::Stuck {
        socket.set_recv_buffer_size(STUCK_RECEIVE_BYTES)?;
    }
    if let Some(source) = source {
        // Lets the kernel hand out a port whose last connection is still in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&peer.into()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(nix::libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}
