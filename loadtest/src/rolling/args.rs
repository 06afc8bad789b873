//! The command line of `millrace-loadtest rolling`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::address::HttpUrl;
use crate::http::parse_duration;
use crate::session::Account;

/// Runs a command that restarts processes of the platform, under load, and counts what callers notice of it: a failed GET, a job lost or doubled,
/// a publication missed. Any of them is an error, told after the figures.
///
/// The load is light: it is there to meet every moment of a restart, not to measure how much the platform takes. Rate limits of the account
/// must allow it.
#[derive(Debug, Clone, Args)]
pub struct RollingArgs {
    /// What callers use: the proxy before the API processes
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    pub url: HttpUrl,
    #[command(flatten)]
    pub account: Account,
    /// Connections that read, one request after the other
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub readers: u32,
    /// Connections that submit jobs, each with an Idempotency-Key, and try again what was not answered
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub writers: u32,
    /// Connections that submit a job nobody runs and wait for it, without a key
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub waiters: u32,
    /// Between two requests of a connection
    #[arg(long, default_value = "10ms", value_parser = parse_duration, value_name = "TIME")]
    pub pause: Duration,
    /// Sockets that follow a channel
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub sockets: u32,
    /// Channels, which the sockets are dealt out over
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub channels: u32,
    /// Namespace of the channels; it must keep a history
    #[arg(long, default_value = "chat")]
    pub namespace: String,
    /// Publications per second, over all channels
    #[arg(long, default_value_t = 20.0)]
    pub publications: f64,
    /// Longest wait for one answer
    #[arg(long, default_value = "40s", value_parser = parse_duration, value_name = "TIME")]
    pub timeout: Duration,
    /// Load before the command, and after it
    #[arg(long, default_value = "1s", value_parser = parse_duration, value_name = "TIME")]
    pub margin: Duration,
    /// Longest that the command may take, up to 600s
    #[arg(long, default_value = "300s", value_parser = parse_duration, value_name = "TIME")]
    pub within: Duration,
    /// Longest wait for jobs to end and sockets to catch up afterwards
    #[arg(long, default_value = "30s", value_parser = parse_duration, value_name = "TIME")]
    pub settle: Duration,
    /// Writes all figures there
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// No notes
    #[arg(long, short = 'q')]
    pub quiet: bool,
    /// Allows a host other than this machine
    #[arg(long)]
    pub i_own_this_host: bool,
    /// What restarts processes, as in `-- systemctl restart millrace-api@8001`
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}
