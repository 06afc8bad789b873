//! `/connection/websocket`: what a client of the protocol sees.

mod client;
mod connecting;
mod frames;
mod rpc;
mod upgrade;
