//! The command line of `millrace-loadtest saturation`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::address::HttpUrl;
use crate::http::{connections_parser, parse_duration};
use crate::session::Account;

/// Takes all there is of something, holds it, gives it back, and times how long it is until answers are as before.
///
/// Of connections: as many as are let in, up to --max. Of the pool of PostgreSQL: more slow requests at once than it has connections.
#[derive(Debug, Clone, Args)]
pub struct SaturationArgs {
    /// The platform
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    pub url: HttpUrl,
    #[command(flatten)]
    pub account: Account,
    /// What to take, one after the other
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Resource::Http, Resource::Sockets, Resource::Pool])]
    pub resources: Vec<Resource>,
    /// Connections at most, up to 20,000
    #[arg(long, default_value_t = 5_000, value_parser = connections_parser())]
    pub max: u32,
    /// Connections that send requests all the time, to take the pool of PostgreSQL
    #[arg(long, default_value_t = 1_000, value_parser = connections_parser())]
    pub senders: u32,
    /// Time for which what was taken is held, up to 600s; sockets, which answer no ping, up to 20s
    #[arg(long, default_value = "3s", value_parser = parse_duration, value_name = "TIME")]
    pub hold: Duration,
    /// Longest wait for a connection or a response
    #[arg(long, default_value = "5s", value_parser = parse_duration, value_name = "TIME")]
    pub timeout: Duration,
    /// Longest wait for answers to be as before
    #[arg(long, default_value = "30s", value_parser = parse_duration, value_name = "TIME")]
    pub within: Duration,
    /// Processes of the server whose CPU and memory to report, as in 4711,4712
    #[arg(long, value_delimiter = ',')]
    pub server_pid: Vec<u32>,
    /// Writes all figures there
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// No notes and no progress bar
    #[arg(long, short = 'q')]
    pub quiet: bool,
    /// Allows a host other than this machine
    #[arg(long)]
    pub i_own_this_host: bool,
}

/// What there is a limited number of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Resource {
    /// Connections that send nothing
    Http,
    /// Open sockets, each signed in
    Sockets,
    /// Connections of the server to PostgreSQL, by lists of jobs
    Pool,
}

impl Resource {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP connections",
            Self::Sockets => "sockets",
            Self::Pool => "pool of PostgreSQL",
        }
    }
}
