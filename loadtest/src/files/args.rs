//! The command line of `millrace-loadtest files`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::address::HttpUrl;
use crate::http::parse_duration;
use crate::session::Account;

/// Measures uploads: how long one takes, and what memory the server needs for many at once. What is uploaded is deleted afterwards.
#[derive(Debug, Clone, Args)]
pub struct FilesArgs {
    /// The platform
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    pub url: HttpUrl,
    #[command(flatten)]
    pub account: Account,
    /// Size of each file, in MiB
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub size: u32,
    /// Uploads at once, one step after the other
    #[arg(long, short = 'c', value_delimiter = ',', default_values_t = [1, 10, 100], value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub connections: Vec<u32>,
    /// Uploads of each connection
    #[arg(long, short = 'n', default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub uploads: u32,
    /// Threads that send
    #[arg(long, short = 't', default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// Longest wait for an answer
    #[arg(long, default_value = "120s", value_parser = parse_duration, value_name = "TIME")]
    pub timeout: Duration,
    /// Servers whose memory to report, as in 4711,4712
    #[arg(long, value_delimiter = ',')]
    pub server_pid: Vec<u32>,
    /// Leaves the files where they are
    #[arg(long)]
    pub keep: bool,
    /// Writes all figures there
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// No notes
    #[arg(long, short = 'q')]
    pub quiet: bool,
    /// Allows a host other than this machine
    #[arg(long)]
    pub i_own_this_host: bool,
}
