//! The socket beneath a connection. It is read by the task that serves the connection, and written to by whoever has something
//! to say, as far as it takes it: nobody waits for it but that task.

use actix_web::rt::net::TcpStream;
use nix::sys::socket::{Shutdown, shutdown};
use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice},
    os::fd::AsRawFd,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, ReadBuf};

#[derive(Debug)]
pub(in crate::socket) struct Wire {
    /// `None` once the connection is over.
    stream: RefCell<Option<TcpStream>>,
    /// It took less than there was: the task waits until it takes more.
    is_blocked: Cell<bool>,
}

impl Wire {
    pub(in crate::socket) fn new(stream: TcpStream) -> Self {
        Self { stream: RefCell::new(Some(stream)), is_blocked: Cell::new(false) }
    }

    /// Reads what has come; nothing is the end.
    pub(in crate::socket) fn poll_read<'a>(&self, cx: &mut Context<'_>, buffer: &'a mut [u8]) -> Poll<io::Result<&'a [u8]>> {
        let mut stream = self.stream.borrow_mut();
        let Some(stream) = &mut *stream else { return Poll::Ready(Ok(&[])) };
        let mut read = ReadBuf::new(buffer);
        std::task::ready!(Pin::new(stream).poll_read(cx, &mut read))?;
        let n_read = read.filled().len();
        Poll::Ready(Ok(&buffer[..n_read]))
    }

    /// Writes as much as the socket takes at once; `WouldBlock` when that is nothing.
    pub(super) fn write(&self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        let stream = self.stream.borrow();
        let stream = stream.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let written = if let [frame] = frames { stream.try_write(frame) } else { stream.try_write_vectored(frames) };
        self.is_blocked.set(matches!(&written, Err(error) if error.kind() == io::ErrorKind::WouldBlock));
        written
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked.get()
    }

    /// Waits until the socket takes more, if it took less than there was.
    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_blocked.get() {
            let stream = self.stream.borrow();
            let stream = stream.as_ref().ok_or(io::ErrorKind::NotConnected)?;
            std::task::ready!(stream.poll_write_ready(cx))?;
            self.is_blocked.set(false);
        }
        Poll::Ready(Ok(()))
    }

    /// Tells the peer that nothing more comes.
    pub(in crate::socket) fn stop_talking(&self) {
        self.shutdown(Shutdown::Write);
    }

    /// Cuts the connection with whatever is not written yet; the task sees the end of it.
    pub(super) fn cut(&self) {
        self.shutdown(Shutdown::Both);
    }

    fn shutdown(&self, how: Shutdown) {
        if let Some(stream) = &*self.stream.borrow() {
            // It may have ended by itself.
            let _ = shutdown(stream.as_raw_fd(), how);
        }
    }

    pub(super) fn end(&self) {
        self.stream.take();
    }
}
