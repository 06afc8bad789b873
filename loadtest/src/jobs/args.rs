//! The command line of `millrace-loadtest jobs`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::address::HttpUrl;
use crate::http::{connections_parser, parse_duration};
use crate::session::Account;

/// Connections unless told otherwise: single submits share statements only in company, bulks fill theirs alone.
const CONNECTIONS_SINGLE: u32 = 100;
const CONNECTIONS_BULK: u32 = 8;

/// Measures the queue: submitting, draining, picking up. Each run has a queue of its own, which it empties afterwards, and
/// ends with a ledger: every accepted job is looked up and must be there once.
#[derive(Debug, Clone, Args)]
pub struct JobsArgs {
    #[command(subcommand)]
    pub measure: Measure,

    /// The platform
    #[arg(long, global = true, default_value = "http://127.0.0.1:8000")]
    pub url: HttpUrl,
    #[command(flatten)]
    pub account: Account,
    /// Runs; the figures are those of the run in the middle
    #[arg(long, global = true, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub repeat: u32,
    /// Threads that send; half of the cores unless given
    #[arg(long, short = 't', global = true, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: Option<u32>,
    /// Longest wait for a connection or a response
    #[arg(long, global = true, default_value = "10s", value_parser = parse_duration, value_name = "TIME")]
    pub timeout: Duration,
    /// Servers whose CPU and memory to report, each with all its child processes, as in 4711,4712
    #[arg(long, global = true, value_delimiter = ',')]
    pub server_pid: Vec<u32>,
    /// Leaves the jobs and the queue where they are
    #[arg(long, global = true)]
    pub keep: bool,
    /// Writes all figures there
    #[arg(long, global = true)]
    pub json: Option<PathBuf>,
    /// No notes
    #[arg(long, short = 'q', global = true)]
    pub quiet: bool,
    /// Allows a host other than this machine
    #[arg(long, global = true)]
    pub i_own_this_host: bool,
}

#[derive(Debug, Clone, Subcommand)]
pub enum Measure {
    /// Submits for a while to a paused queue: jobs accepted per second
    Enqueue(EnqueueArgs),
    /// Fills a paused queue, lets it run, and times it until every job has ended
    Drain(DrainArgs),
    /// Submits one job after another to idle workers: the time from its creation to its start
    Pickup(PickupArgs),
}

#[derive(Debug, Clone, Args)]
pub struct EnqueueArgs {
    /// Jobs per request: 1 is POST /jobs, more are POST /jobs/bulk
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub bulk: u32,
    /// Keep-alive connections: 100 for single submits, 8 for bulks
    #[arg(long, short = 'c', value_parser = connections_parser())]
    pub connections: Option<u32>,
    /// Measured time of each run, up to 600s
    #[arg(long, short = 'd', default_value = "5s", value_parser = parse_duration, value_name = "TIME")]
    pub duration: Duration,
    /// Time before it that is not measured
    #[arg(long, default_value = "1s", value_parser = parse_duration, value_name = "TIME")]
    pub warmup: Duration,
    /// Leaves the queue running, so that workers drain it meanwhile
    #[arg(long)]
    pub draining: bool,
    /// Another server, asked for this URL by as many connections in turns with the submits, and the ratio of the two
    #[arg(long)]
    pub reference_url: Option<HttpUrl>,
}

#[derive(Debug, Clone, Args)]
pub struct DrainArgs {
    /// Jobs to drain; rounded up to whole requests
    #[arg(long, short = 'n', default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub jobs: u32,
    /// Jobs per request: 1 is POST /jobs, more are POST /jobs/bulk
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub bulk: u32,
    /// Keep-alive connections that submit: 100 for single submits, 8 for bulks
    #[arg(long, short = 'c', value_parser = connections_parser())]
    pub connections: Option<u32>,
    /// Does not pause the queue: the time is from the first submit to the last end
    #[arg(long)]
    pub while_submitting: bool,
    /// Sockets that watch meanwhile: every second one the queue, the others a job each
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000), conflicts_with = "while_submitting")]
    pub watchers: u32,
    /// Longest wait for the last job to end, up to 600s
    #[arg(long, default_value = "300s", value_parser = parse_duration, value_name = "TIME")]
    pub within: Duration,
}

#[derive(Debug, Clone, Args)]
pub struct PickupArgs {
    /// Jobs to submit, one after another
    #[arg(long, short = 'n', default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub jobs: u32,
    /// Submits with `Prefer: wait`, and measures the time until the answer brings the result
    #[arg(long)]
    pub wait: bool,
}

/// Connections for requests of `bulk` jobs.
pub(super) fn connections(given: Option<u32>, bulk: u32) -> u32 {
    given.unwrap_or(if bulk == 1 { CONNECTIONS_SINGLE } else { CONNECTIONS_BULK })
}
