//! The REST edge of Millrace. In reading order:
//!
//! - [`problems`]: the one table from a domain code to status, title and retry advice; [`error`]: how an error becomes an answer.
//! - [`state`]: what every handler is given.
//! - [`routes`]: the one list of routes, each with its rate class and who may call it.
//! - [`edge`]: what happens to every request before and after its handler. [`gate`]: sign-in and rate limits of one route.
//! - [`health`]: which servers are there, as probes tell and requests are spared.
//! - [`extract`]: bytes into types, else 4xx there.
//! - [`idempotency`]: how a creation that carries an Idempotency-Key is answered.
//! - [`socket`]: WebSocket connections and their protocol.
//! - [`filling`]: pools that are full before the process is ready.
//! - [`openapi`]: the document that describes all of it.
//! - [`server`] and [`drain`]: start, and stop in order. [`cli`]: the command line.

pub mod cli;
pub mod drain;
pub mod edge;
pub mod error;
pub mod extract;
pub mod filling;
pub mod gate;
pub mod health;
pub mod idempotency;
pub mod openapi;
pub mod problems;
pub mod routes;
pub mod server;
pub mod socket;
pub mod state;
