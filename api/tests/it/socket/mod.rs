//! `/connection/websocket`: what a client of the protocol sees.

mod channels;
pub(crate) mod client;
mod connecting;
mod events;
mod frames;
mod losses;
mod orders;
mod permissions;
mod presence;
mod recovery;
mod rpc;
mod tokens;
mod two_processes;
mod unread;
mod upgrade;
