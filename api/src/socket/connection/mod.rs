//! One connection: its state, and what may be done to it from outside. Knows no I/O: somebody else ([`super::body`]) takes
//! frames out, and feeds the [`driver`] what was received.
//!
//! - [`driver`]: from received bytes to commands, one after the other. [`commands`]: from a command to what carries it out.
//! - [`clock`]: pings, pongs and other deadlines.
//! - [`membership`]: what it is subscribed to.
//! - [`connect`], [`subscribe`], [`publish`], [`presence`], [`history`], [`refresh`], [`rpc`]: the commands. [`server_side`]:
//!   subscriptions that no command asked for.

mod clock;
mod commands;
mod connect;
mod driver;
mod history;
mod membership;
mod presence;
mod publish;
mod refresh;
mod rpc;
mod server_side;
mod subscribe;
mod wire;

pub(super) use driver::{Driver, Step};
pub(super) use wire::Wire;

use super::{
    frames,
    hub::{Hub, Key, NEVER, Tick},
    limits::{Allowance, Place},
    meters::Meters,
    outbox::Outbox,
    protocol::close::{self, CloseReason},
};
use bytes::Bytes;
use clock::Clock;
use connect::Holder;
use membership::Membership;
use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
    task::Waker,
};
use uuid::Uuid;

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody has said who they are.
    Opening,
    /// Somebody has, and it is being looked at.
    Connecting,
    Open,
    /// The last frame is on its way, and nothing that is received counts any more.
    Closing,
}

/// The state of one connection. An idle one should cost as little memory as can be: see what is boxed and what is not there.
pub(super) struct Connection {
    pub(super) hub: Rc<Hub>,
    /// Id of the connection, for clients and in presence.
    pub(super) id: Uuid,
    key: Key,
    wire: Wire,
    _place: Place,
    phase: Cell<Phase>,
    outbox: RefCell<Outbox>,
    /// Wakes whoever writes the frames out.
    writer: RefCell<Option<Waker>>,
    /// Who holds it, once that is known.
    holder: RefCell<Option<Rc<Holder>>>,
    memberships: RefCell<Vec<Membership>>,
    clock: Cell<Clock>,
    /// When the wheel will look here next.
    looked_at: Cell<Tick>,
    allowance: Cell<Allowance>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("id", &self.id).field("phase", &self.phase).finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) fn new(hub: Rc<Hub>, key: Key, wire: Wire, place: Place) -> Self {
        let allowance = Allowance::new(hub.rules.commands_burst(), hub.now());
        Self {
            hub,
            id: Uuid::new_v4(),
            key,
            wire,
            _place: place,
            phase: Cell::new(Phase::Opening),
            outbox: RefCell::default(),
            writer: RefCell::default(),
            holder: RefCell::default(),
            memberships: RefCell::default(),
            clock: Cell::default(),
            looked_at: Cell::new(NEVER),
            allowance: Cell::new(allowance),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Puts a frame into the outbox. Who is too far behind is closed; who is closing gets nothing more.
    pub(super) fn send(&self, frame: Bytes) {
        if self.phase.get() == Phase::Closing {
            return;
        }
        let bytes = frame.len();
        let outcome = self.outbox.borrow_mut().push(frame, self.hub.rules.outbox);
        match outcome {
            Ok(()) => {
                self.hub.meters.frame_queued(bytes);
                self.wake_writer();
            }
            Err(_) => self.close_at_once(close::SLOW),
        }
    }

    /// Ends the connection when everything before has been written.
    pub(super) fn close(&self, reason: CloseReason) {
        self.close_with(reason.code, reason.text);
    }

    /// The same with what waits thrown away: for those who do not read.
    fn close_at_once(&self, reason: CloseReason) {
        self.drop_frames();
        self.close(reason);
    }

    pub(super) fn close_with(&self, code: u16, reason: &str) {
        if self.phase.replace(Phase::Closing) == Phase::Closing {
            return;
        }
        Meters::closed(code);
        let frame = frames::close(code, reason);
        self.hub.meters.frame_queued(frame.len());
        self.outbox.borrow_mut().push_last(frame);
        self.expect_goodbye();
        self.wake_writer();
    }

    fn drop_frames(&self) {
        self.hub.meters.frames_dropped(self.outbox.borrow_mut().clear());
    }

    /// The next frame to write.
    pub(super) fn next_frame(&self) -> Option<Bytes> {
        let frame = self.outbox.borrow_mut().pop();
        if let Some(frame) = &frame {
            self.hub.meters.frame_sent(frame.len());
        }
        frame
    }

    /// Called when there is nothing to write: whoever sends wakes `waker`.
    pub(super) fn park(&self, waker: &Waker) {
        let mut writer = self.writer.borrow_mut();
        if writer.as_ref().is_none_or(|writer| !writer.will_wake(waker)) {
            *writer = Some(waker.clone());
        }
    }

    fn wake_writer(&self) {
        if let Some(writer) = &*self.writer.borrow() {
            writer.wake_by_ref();
        }
    }

    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// The transport is gone.
    pub(super) fn ended(&self) {
        self.phase.set(Phase::Closing);
        self.drop_frames();
        self.leave_all();
        self.leave_user();
        self.hub.forget(self.key);
    }
}
