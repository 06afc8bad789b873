//! How much of a connection is read for the request that is being answered.

use super::{
    super::deadlines::Heads,
    grown::{Grown, OneGrown},
};
use actix_web::dev::Payload;
use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// As much as the server gets at once: its own buffer, which does not have to grow then, and is kept for as long as the connection.
pub(super) const SIP_BYTES: usize = 8 << 10;

/// Whether a connection is read from; shared with the body that comes over it.
#[derive(Debug, Clone, Default)]
pub(in crate::server) struct Tap(Rc<TapState>);

struct TapState {
    closed: Cell<bool>,
    n_at_once: Cell<usize>,
    body: Cell<Body>,
    /// Somebody may ask for more of the body that the server has.
    is_being_taken: Cell<bool>,
    reader: RefCell<Option<Waker>>,
    /// A body that nobody took to its end.
    unread: RefCell<Payload>,
    grown: RefCell<Option<OneGrown>>,
    heads: Heads,
}

/// How much of the body is still to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    Sized(usize),
    /// What comes until its end, or so many bytes for now.
    Chunked(usize),
}

impl Default for TapState {
    fn default() -> Self {
        Self {
            closed: Cell::new(false),
            n_at_once: Cell::new(SIP_BYTES),
            body: Cell::new(Body::Sized(0)),
            is_being_taken: Cell::new(false),
            reader: RefCell::default(),
            unread: RefCell::new(Payload::None),
            grown: RefCell::default(),
            heads: Heads::default(),
        }
    }
}

impl fmt::Debug for TapState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TapState")
            .field("closed", &self.closed)
            .field("n_at_once", &self.n_at_once)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

impl Tap {
    /// A head is there, and what is behind it.
    pub(super) fn begin_request(&self, body: Body) {
        self.0.unread.replace(Payload::None);
        self.0.heads.came();
        self.0.body.set(body);
    }

    /// Whether what is read may be the rest of a body that nobody took: the connection ends behind its answer.
    pub(super) fn is_ending(&self) -> bool {
        !self.0.heads.are_answering() && self.0.body.get() != Body::Sized(0)
    }

    /// The server has all of the answer: what is read now belongs to the next request.
    pub(super) fn answered(&self) {
        self.0.heads.answered();
        self.0.n_at_once.set(SIP_BYTES);
        self.wake_reader();
    }

    /// Its buffers grow, and stay so.
    pub(super) fn grow(&self, grown: &Arc<Grown>) {
        self.0.grown.borrow_mut().get_or_insert_with(|| grown.one_more());
    }

    /// Whether its buffers have grown, and those of too many others.
    pub(super) fn is_one_too_many(&self) -> bool {
        self.0.grown.borrow().as_ref().is_some_and(OneGrown::is_one_too_many)
    }

    pub(super) fn heads(&self) -> &Heads {
        &self.0.heads
    }

    /// Whether the end of the connection is to be told later: a server that has all of a body, and that nobody has taken yet, would believe that it
    /// broke off.
    pub(super) fn keeps_the_end(&self) -> bool {
        self.0.heads.are_answering() && self.0.is_being_taken.get()
    }

    pub(super) fn set_being_taken(&self, is_being_taken: bool) {
        let was_being_taken = self.0.is_being_taken.replace(is_being_taken);
        if was_being_taken && !is_being_taken {
            self.wake_reader();
        }
    }

    pub(super) fn close(&self) {
        self.0.closed.set(true);
    }

    /// Has the body read, so many bytes at once.
    pub(super) fn open(&self, n_at_once: usize) {
        self.0.closed.set(false);
        self.0.n_at_once.set(n_at_once);
        self.wake_reader();
    }

    pub(super) fn n_at_once(&self) -> usize {
        self.0.n_at_once.get()
    }

    /// How much may be read now. While a request is answered that is its body: others behind it wait where they cost nothing.
    pub(super) fn n_wanted(&self) -> usize {
        let (Body::Sized(n_left) | Body::Chunked(n_left)) = self.0.body.get();
        if self.0.heads.are_answering() { n_left } else { usize::MAX }
    }

    pub(super) fn has_read(&self, n_bytes: usize) {
        if self.0.heads.are_answering() {
            self.0.body.set(match self.0.body.get() {
                Body::Sized(n_left) => Body::Sized(n_left.saturating_sub(n_bytes)),
                Body::Chunked(n_left) => Body::Chunked(n_left.saturating_sub(n_bytes)),
            });
        }
        if n_bytes > 0 {
            self.0.heads.has_read();
        }
    }

    /// Whether a body is read whose end is to be looked for.
    pub(super) fn is_in_chunks(&self) -> bool {
        self.0.heads.are_answering() && matches!(self.0.body.get(), Body::Chunked(_))
    }

    /// The end of the last chunk was read.
    pub(super) fn has_ended(&self) {
        self.0.body.set(Body::Sized(0));
    }

    /// So many bytes more may be read of a body in chunks, if there are.
    pub(super) fn allow_chunks(&self, n_bytes: usize) {
        if self.is_in_chunks() {
            self.0.body.set(Body::Chunked(n_bytes));
        }
    }

    /// Keeps what is left of a body until the connection has its next request or is gone. The server closes the connection behind an answer to
    /// a body that is not all there; but one in chunks that nobody has any more it would read for as long as something comes, or might.
    pub(super) fn keep(&self, unread: Payload) {
        self.0.unread.replace(unread);
    }

    /// Whether the reader may go on; it is woken when it may.
    pub(super) fn poll_open(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.0.closed.get() {
            return Poll::Ready(());
        }
        self.wake_when_wanted(cx);
        Poll::Pending
    }

    /// Wakes the reader when more is wanted.
    pub(super) fn wake_when_wanted(&self, cx: &Context<'_>) {
        self.0.reader.replace(Some(cx.waker().clone()));
    }

    fn wake_reader(&self) {
        if let Some(reader) = self.0.reader.take() {
            reader.wake();
        }
    }
}
