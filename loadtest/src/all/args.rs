//! The command lines of `millrace-loadtest all` and `millrace-loadtest report`.

use std::path::PathBuf;

use clap::Args;

use crate::address::HttpUrl;
use crate::session::Account;

/// Measures everything, one part after the other, and writes one page with charts and one JSON file: each promise beside what was measured,
/// and how large a platform should be.
///
/// The account must be an administrator's, a worker must run, and the rate limits must be high. `infra/local/bench-all` starts such a platform.
#[derive(Debug, Clone, Args)]
pub struct AllArgs {
    /// The platform's API processes; with one, the ladder ends at 10,000 connections
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:8000")]
    pub url: Vec<HttpUrl>,
    /// An API process with limits that can be reached, for saturation and overload; without one they go to the first of --url
    #[arg(long)]
    pub limited_url: Option<HttpUrl>,
    #[command(flatten)]
    pub account: Account,
    /// The API processes, in the order of --url, whose CPU and memory to report, as in 4711,4712
    #[arg(long, value_delimiter = ',')]
    pub server_pid: Vec<u32>,
    /// The process of --limited-url
    #[arg(long, requires = "limited_url")]
    pub limited_pid: Option<u32>,
    /// First processes of worker, PostgreSQL and Redis, each with all its child processes
    #[arg(long, value_delimiter = ',')]
    pub tree_pid: Vec<u32>,
    /// About three minutes instead of about fifteen: one short run of each
    #[arg(long)]
    pub quick: bool,
    /// These parts alone, by name
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// All parts but these
    #[arg(long, value_delimiter = ',', conflicts_with = "only")]
    pub skip: Vec<String>,
    /// Numbers of users to size for
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000, 5_000, 10_000, 24_000, 100_000], value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub users: Vec<u64>,
    /// Writes all figures there
    #[arg(long, default_value = "millrace-report.json")]
    pub json: PathBuf,
    /// Writes the page there
    #[arg(long, default_value = "millrace-report.html")]
    pub html: PathBuf,
    /// No notes and no progress bars
    #[arg(long, short = 'q')]
    pub quiet: bool,
    /// Allows a host other than this machine
    #[arg(long)]
    pub i_own_this_host: bool,
}

/// Makes the page of `all` anew from its JSON file
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// What `all` has written
    pub json: PathBuf,
    /// Writes the page there
    #[arg(long, default_value = "millrace-report.html")]
    pub html: PathBuf,
}
