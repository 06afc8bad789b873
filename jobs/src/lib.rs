//! The worker binary of Millrace. In reading order:
//!
//! - [`cli`]: the command line.
//! - [`supervisor`]: the parent process: starts children, restarts those that end, passes signals on, answers probes.

pub mod cli;
pub mod supervisor;
