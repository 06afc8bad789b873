//! One connection: its state, and what may be done to it from outside. The task that serves it is in [`super::serve`].
//!
//! - [`wire`]: the socket. [`writing`]: from the outbox to the socket.
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
mod writing;

pub(super) use driver::{Driver, Step};
pub(super) use wire::Wire;

use super::{
    frames,
    hub::{Hub, Key, NEVER, Tick},
    limits::{Allowance, Place},
    meters::Meters,
    outbox::Outbox,
    protocol::close::CloseReason,
};
use clock::Clock;
use connect::Holder;
use membership::Membership;
use std::{
    cell::{Cell, RefCell},
    fmt,
    net::IpAddr,
    rc::Rc,
    task::Waker,
};
use uuid::Uuid;
use writing::Writer;

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
    /// Of the client, as the handshake had it.
    address: IpAddr,
    wire: Wire,
    _place: Place,
    phase: Cell<Phase>,
    outbox: RefCell<Outbox>,
    /// Wakes the task that serves it.
    task: RefCell<Option<Waker>>,
    /// Who writes what is in the outbox.
    writer: Cell<Writer>,
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
    pub(super) fn new(hub: Rc<Hub>, key: Key, address: IpAddr, wire: Wire, place: Place) -> Self {
        let allowance = Allowance::new(hub.rules.commands_burst(), hub.now());
        Self {
            hub,
            id: Uuid::new_v4(),
            key,
            address,
            wire,
            _place: place,
            phase: Cell::new(Phase::Opening),
            outbox: RefCell::default(),
            task: RefCell::default(),
            writer: Cell::new(Writer::Nobody),
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

    /// Ends the connection when everything before has been written.
    pub(super) fn close(&self, reason: CloseReason) {
        self.close_with(reason.code, reason.text);
    }

    pub(super) fn close_with(&self, code: u16, reason: &str) {
        if self.phase.replace(Phase::Closing) == Phase::Closing {
            return;
        }
        Meters::closed(code);
        let frame = self.framed(frames::close(code, reason));
        self.hub.meters.frame_queued(frame.len());
        self.outbox.borrow_mut().push_last(frame);
        self.expect_goodbye();
        self.hurry_to_write();
    }

    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// The transport is gone.
    pub(super) fn ended(&self) {
        self.phase.set(Phase::Closing);
        // All of them: what is half written will never be whole.
        self.hub.meters.frames_dropped(self.outbox.take().bytes());
        self.wire.end();
        self.leave_all();
        self.leave_user();
        self.hub.forget(self.key);
    }
}
