//! The handlers, one file per family of kinds. A handler gets its payload and returns an outcome; limits, panics and
//! retries are not its business.

pub mod ai;
pub mod channel;
pub mod debug;
pub mod files;
pub mod http;
pub mod mail;
pub mod system;
pub mod tracks;
