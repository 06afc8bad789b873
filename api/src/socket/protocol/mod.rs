//! The Centrifugo client protocol, version 2, in JSON: text in and out, no I/O and no state.
//!
//! - [`command`]: what clients ask. [`reply`]: what they are answered, and told without asking.
//! - [`error`]: why a command was refused. [`close`]: why a connection or a subscription ended.
//!
//! To add a command: its request in [`command`], its result in [`reply`], its file under `connection/`.

pub(super) mod close;
pub(super) mod command;
pub(super) mod error;
pub(super) mod reply;
