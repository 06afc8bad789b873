//! `/connection/websocket`: what a client of the protocol sees.

mod channels;
mod client;
mod connecting;
mod events;
mod frames;
mod losses;
mod permissions;
mod recovery;
mod rpc;
mod upgrade;
