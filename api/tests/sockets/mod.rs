//! Clients of a channel that keep books: every subscriber notes each publication with its offset, comes back by itself as the
//! official clients do, and fails the test when something is missed in silence. Shared by the test programs beside this folder.

mod book;
mod follower;
mod publisher;
mod wire;

pub(crate) use book::{Book, assert_agreement};
pub(crate) use follower::{Follower, Side};
pub(crate) use publisher::Publisher;
