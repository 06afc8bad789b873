//! Sockets: the Centrifugo client protocol over WebSocket. In reading order:
//!
//! - [`upgrade`]: from a request to a socket; [`limits`]: how many, and how fast. [`rules`]: the settings that a socket asks for.
//! - [`frames`]: RFC 6455. [`protocol`]: what is said in the frames. Both are text in and text out.
//! - [`connection`]: one connection; [`outbox`]: what waits to be sent to it, and [`memory`]: to all of a thread. [`serve`]: the task that serves it.
//! - [`hub`]: the connections of one thread, and their channels. [`meters`]: what it counts.
//! - [`fanout`]: one per process: from Redis to the hubs. [`following`]: which jobs and queues are told about. [`drain`]: the end of all sockets.
//!
//! After the upgrade nothing of the HTTP server is left with a socket: it has one small task, and neither queue nor timer of its
//! own (docs/adr/0015). It is fed by the hub of its thread, and looked at by that thread's wheel. Nothing else waits for a socket.

mod connection;
mod drain;
mod fanout;
mod following;
mod frames;
mod hub;
mod limits;
mod memory;
mod meters;
mod outbox;
mod protocol;
mod rules;
mod serve;
pub mod upgrade;

pub use hub::Hub;
pub(crate) use protocol::error::Refusal;

use fanout::Fanout;
use limits::{Door, Place};
use shared::{Context, Result};
use std::sync::{Arc, atomic::AtomicUsize};

/// What the sockets of one process share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sockets(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    door: Door,
    fanout: Fanout,
    /// What has to be done before the process may end.
    n_farewells: Arc<AtomicUsize>,
}

impl Sockets {
    /// Begins to hear what is published, on the runtime that this is called on.
    pub fn start(ctx: &Context) -> Self {
        let door = Door::new(&ctx.settings());
        Self(Arc::new(Shared { door, fanout: Fanout::start(ctx.clone()), n_farewells: Arc::default() }))
    }

    /// Sockets that are open now.
    pub fn n_open(&self) -> usize {
        self.0.door.n_open()
    }

    fn fanout(&self) -> &Fanout {
        &self.0.fanout
    }

    fn enter(&self) -> Result<Place> {
        self.0.door.enter()
    }
}
