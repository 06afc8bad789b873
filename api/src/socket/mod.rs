//! Sockets: the Centrifugo client protocol over WebSocket. In reading order:
//!
//! - [`upgrade`]: from a request to a socket; [`limits`]: how many, and how fast. [`rules`]: the settings that a socket asks for.
//! - [`frames`]: RFC 6455. [`protocol`]: what is said in the frames. Both are text in and text out.
//! - [`connection`]: one connection, without I/O; [`outbox`]: what waits to be sent to it. [`body`]: its I/O.
//! - [`hub`]: the connections of one thread. [`meters`]: what it counts.
//!
//! A socket has no task, no queue and no timer of its own: it lives in the task that serves its connection, is fed by the
//! hub of its thread, and looked at by that thread's wheel. Nothing in here waits for a socket.

#![expect(dead_code, reason = "channels come with the broker, in the next change")]

mod body;
mod connection;
mod frames;
mod hub;
mod limits;
mod meters;
mod outbox;
mod protocol;
mod rules;
pub mod upgrade;

pub use hub::Hub;

use limits::{Door, Place};
use shared::{Result, config::Settings};
use std::sync::Arc;

/// What the sockets of one process share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sockets(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    door: Door,
}

impl Sockets {
    pub fn new(settings: &Settings) -> Self {
        Self(Arc::new(Shared { door: Door::new(settings) }))
    }

    /// Sockets that are open now.
    pub fn n_open(&self) -> usize {
        self.0.door.n_open()
    }

    fn enter(&self) -> Result<Place> {
        self.0.door.enter()
    }
}
