//! The socket beneath a connection, for the two things that cannot be done through the HTTP server that owns it: to stop
//! listening, and to give up on a peer that takes nothing.

use nix::sys::socket::{Shutdown, shutdown};
use std::os::fd::RawFd;

/// Valid for as long as the HTTP server holds the connection; ours ends before.
#[derive(Debug)]
pub(in crate::socket) struct Wire(Option<RawFd>);

impl Wire {
    /// `None` where the transport is no socket.
    pub(in crate::socket) fn new(socket: Option<RawFd>) -> Self {
        Self(socket)
    }

    /// Nothing more is expected from the peer: the server sees the end of its input, and ends the connection.
    pub(in crate::socket) fn stop_listening(&self) -> bool {
        self.0.is_some_and(|socket| shutdown(socket, Shutdown::Read).is_ok())
    }

    /// Cuts the connection with whatever is not written yet.
    pub(super) fn cut(&self) {
        if let Some(socket) = self.0 {
            // It may have ended by itself.
            let _ = shutdown(socket, Shutdown::Both);
        }
    }
}
