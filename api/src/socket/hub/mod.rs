//! The sockets of one worker thread: no locks, and no queue per connection. In reading order:
//!
//! - [`registry`]: connections by key. [`wheel`]: when to look at which.
//! - [`channels`]: the channels that they are subscribed to; [`channel`]: one of them. [`rounds`]: whose turn it is.
//! - [`positions`]: whether something was missed. [`presence`]: who is seen. [`counting`]: how many connections a user has.
//! - [`control`]: orders for connections. [`drain`]: the end.
//!
//! What reaches a hub from outside comes in batches over one bounded queue; all that wait are spread over the outboxes before any
//! socket is written to, so that several frames leave in one write. Nothing here ever waits for a socket.

mod channel;
mod channels;
mod control;
mod counting;
mod drain;
mod positions;
mod presence;
mod registry;
mod rounds;
mod wheel;

pub(super) use channel::{Buffer, HubChannel, Standing};
pub(super) use presence::Granted;
pub(super) use registry::Key;
pub(super) use wheel::{NEVER, Tick, ticks};

use super::{
    Sockets,
    connection::{Connection, Wire},
    fanout::HubId,
    limits::Place,
    memory::Memory,
    meters::Meters,
    rules::Rules,
};
use crate::state::AppState;
use actix_web::{rt, web::Data};
use channels::Channels;
use counting::Ended;
use presence::Changes;
use registry::Registry;
use rounds::Rounds;
use shared::vital::vital;
use std::{cell::RefCell, net::IpAddr, rc::Rc};
use tokio::time::{self, MissedTickBehavior};
use wheel::{TICK, Wheel};

/// What is read from a socket at once.
const ARRIVALS_BYTES: usize = 64 << 10;

/// One per worker thread.
#[derive(Debug)]
pub struct Hub {
    pub(super) id: HubId,
    pub(super) state: Data<AppState>,
    pub(super) rules: Rules,
    pub(super) meters: Meters,
    /// What waits for all of its sockets.
    pub(super) memory: Rc<Memory>,
    connections: RefCell<Registry>,
    channels: Channels,
    /// When to look whether something of a channel was missed.
    looks: Rounds,
    /// When to refresh who is present in a channel.
    refreshes: Rounds,
    /// What presence is to become.
    changes: Changes,
    ended: Ended,
    wheel: RefCell<Wheel>,
    /// The buffer that messages are read into, lent to one connection at a time.
    scratch: RefCell<Vec<u8>>,
    /// What is received is read into this first, by one connection at a time.
    pub(super) arrivals: RefCell<Box<[u8]>>,
}

impl Hub {
    /// Starts the hub of the thread called `worker`; call it on the thread, inside its runtime.
    pub fn start(state: Data<AppState>, worker: String) -> Rc<Self> {
        let settings = state.ctx.settings();
        let rules = Rules::of(&settings);
        let memory = Memory::of_thread(settings.ws_outboxes_max_bytes.0, settings.api_workers());
        let (id, batches) = state.sockets.fanout().register();
        let hub = Rc::new(Self {
            id,
            meters: Meters::new(worker),
            memory,
            connections: RefCell::default(),
            channels: Channels::default(),
            looks: Rounds::new(rules.position_check_every),
            refreshes: Rounds::new(rules.presence_refresh_every),
            rules,
            changes: Changes::default(),
            ended: Ended::default(),
            wheel: RefCell::new(Wheel::new()),
            scratch: RefCell::default(),
            arrivals: RefCell::new(vec![0; ARRIVALS_BYTES].into()),
            state,
        });
        // Sockets of a thread without them would be open and deaf.
        rt::spawn(vital("time of sockets", Rc::clone(&hub).keep_time()));
        rt::spawn(vital("publications to sockets", Rc::clone(&hub).hear(batches)));
        rt::spawn(vital("revocations of sockets", Rc::clone(&hub).hear_revocations()));
        if hub.rules.connections_per_user > 0 {
            rt::spawn(Rc::clone(&hub).keep_counted());
        }
        hub
    }

    pub(super) fn sockets(&self) -> &Sockets {
        &self.state.sockets
    }

    /// A connection that has been upgraded and has said nothing yet.
    pub(super) fn open(self: &Rc<Self>, address: IpAddr, wire: Wire, place: Place) -> Rc<Connection> {
        let connection = self.connections.borrow_mut().insert(|key| Rc::new(Connection::new(Rc::clone(self), key, address, wire, place)));
        connection.expect_connect();
        connection
    }

    pub(super) fn forget(&self, key: Key) {
        self.connections.borrow_mut().remove(key);
    }

    pub(super) fn now(&self) -> Tick {
        self.wheel.borrow().now()
    }

    /// Plans a look at `key`, and gives when that will be: at `tick`, or sooner if that is far away.
    pub(super) fn schedule(&self, key: Key, tick: Tick) -> Tick {
        self.wheel.borrow_mut().schedule(key, tick)
    }

    pub(super) fn lend_scratch(&self) -> Vec<u8> {
        self.scratch.take()
    }

    pub(super) fn return_scratch(&self, scratch: Vec<u8>) {
        /// What the largest usual message takes; a larger buffer is not kept.
        const KEPT_BYTES: usize = 64 << 10;
        if (1..=KEPT_BYTES).contains(&scratch.capacity()) {
            self.scratch.replace(scratch);
        }
    }

    async fn keep_time(self: Rc<Self>) {
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let due = self.wheel.borrow_mut().advance();
            for key in due {
                let connection = self.connections.borrow().get(key).map(Rc::clone);
                if let Some(connection) = connection {
                    connection.look_at_clock();
                }
            }
            self.forget_channels();
            self.check_positions();
            self.refresh_presence();
            self.meters.observe(self.connections.borrow().len(), self.memory.taken());
        }
    }
}
