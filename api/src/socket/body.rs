//! A connection as the body of the answer that upgraded it: when the HTTP server asks for more to write, it also reads what
//! was received and moves the commands on. So a socket is no task beside the one that it is served by, and has no queue
//! besides its outbox.

use super::connection::{Driver, Step};
use actix_web::{
    body::{BodySize, MessageBody},
    dev::Payload,
    web::Bytes,
};
use futures_util::Stream;
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, Waker},
};

#[derive(Debug)]
pub(super) struct SocketBody {
    driver: Driver,
    received: Received,
}

/// What the HTTP server reads from the socket.
struct Received {
    payload: Payload,
    has_ended: bool,
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Received").field("has_ended", &self.has_ended).finish_non_exhaustive()
    }
}

impl Received {
    /// The server polls the body after everything that it reads, so waking it for that would only poll it twice.
    fn poll(&mut self) -> Poll<Option<Bytes>> {
        let mut asleep = Context::from_waker(Waker::noop());
        match Pin::new(&mut self.payload).poll_next(&mut asleep) {
            Poll::Ready(Some(Ok(bytes))) => Poll::Ready(Some(bytes)),
            Poll::Ready(Some(Err(_)) | None) => {
                self.has_ended = true;
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Drops what is received, up to the end.
    fn poll_end(&mut self) -> Poll<()> {
        while !self.has_ended {
            std::task::ready!(self.poll());
        }
        Poll::Ready(())
    }
}

impl SocketBody {
    pub(super) fn new(driver: Driver, payload: Payload) -> Self {
        Self { driver, received: Received { payload, has_ended: false } }
    }

    /// Both sides said goodbye: ends the input, so that the server ends the connection at once. Otherwise it would wait for
    /// the client to do so, as clients wait for us.
    fn poll_parted(&mut self) -> Poll<()> {
        if self.received.has_ended || !self.driver.connection.wire().stop_listening() {
            return Poll::Ready(());
        }
        self.received.poll_end()
    }
}

impl MessageBody for SocketBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let this = self.get_mut();
        loop {
            if let Some(frame) = this.driver.connection.next_frame() {
                return Poll::Ready(Some(Ok(frame)));
            }
            match this.driver.step(cx) {
                Step::Progress => {}
                Step::Waiting => break,
                // The server reads on for a while and drops what comes, so that the last frame arrives.
                Step::Broken => return Poll::Ready(None),
                Step::Parted => match this.poll_parted() {
                    Poll::Ready(()) => return Poll::Ready(None),
                    Poll::Pending => break,
                },
                Step::Hungry => match this.received.poll() {
                    Poll::Ready(Some(bytes)) => this.driver.receive(bytes),
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Pending => break,
                },
            }
        }
        this.driver.connection.park(cx.waker());
        Poll::Pending
    }
}
