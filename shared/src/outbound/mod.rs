//! HTTP to the outside: to addresses that callers chose, and that may be hostile.
//!
//! [`guard`] (which addresses may be reached), [`client`] (one bounded exchange over a pinned address), [`signature`] (how receivers
//! know that it was us), [`breaker`] (leaving alone what does not answer), [`pace`] (no faster than it wants), [`mod@retry_after`] (what asks to be left alone).

pub mod breaker;
pub mod client;
pub mod guard;
pub mod pace;
pub mod retry_after;
pub mod signature;

pub use client::{Answer, Opened, Outbound, Request, SendError};
pub use guard::{Guard, Refused, Target};
