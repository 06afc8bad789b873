//! The command line of `millrace-loadtest ingest`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::address::HttpUrl;
use crate::http::{connections_parser, parse_duration};
use crate::session::Account;

/// Measures points: how fast they are accepted, stored and imported. Each run has tracks of its own, and ends with a ledger: what
/// was accepted must be stored, each point once. Or moves tracks for people to look at.
#[derive(Debug, Clone, Args)]
pub struct IngestArgs {
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
    /// Tracks that the points are of, in turns: 100, or 12 to move
    #[arg(long, global = true, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub tracks: Option<u32>,
    /// Time between two points of a track
    #[arg(long, global = true, default_value = "1s", value_parser = parse_duration, value_name = "TIME")]
    pub every: Duration,
    /// Points per request; 1 sends each alone
    #[arg(long, global = true, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub batch: u32,
    /// Keep-alive connections: 100 for single points, 4 for batches
    #[arg(long, short = 'c', global = true, value_parser = connections_parser())]
    pub connections: Option<u32>,
    /// Threads that send
    #[arg(long, short = 't', global = true, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// Longest wait for a connection or a response
    #[arg(long, global = true, default_value = "10s", value_parser = parse_duration, value_name = "TIME")]
    pub timeout: Duration,
    /// Servers whose CPU and memory to report, each with all its child processes, as in 4711,4712
    #[arg(long, global = true, value_delimiter = ',')]
    pub server_pid: Vec<u32>,
    /// Leaves the tracks where they are
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
    /// Sends for a while: points accepted per second. The same few requests again and again, so best with no worker
    Accept(AcceptArgs),
    /// Sends points, each once, and waits until they are stored: points per second from the first request to the last commit
    Store(StoreArgs),
    /// Sends points at a fixed rate, each once, while they are stored: whether the rate is kept, how long a point takes from its answer until it
    /// can be read, and whether memory grows
    Flow(FlowArgs),
    /// Uploads a file of points, imports it by a job, and follows the job over a socket: its progress, points per second, and the memory of
    /// each process of --server-pid. Once, of one track
    Import(ImportArgs),
    /// Drives tracks around a town, for `/examples/live`. Nothing is measured
    Move(MoveArgs),
}

#[derive(Debug, Clone, Args)]
pub struct AcceptArgs {
    /// Measured time of each run, up to 600s
    #[arg(long, short = 'd', default_value = "5s", value_parser = parse_duration, value_name = "TIME")]
    pub duration: Duration,
    /// Time before it that is not measured
    #[arg(long, default_value = "1s", value_parser = parse_duration, value_name = "TIME")]
    pub warmup: Duration,
}

#[derive(Debug, Clone, Args)]
pub struct StoreArgs {
    /// Points to send; rounded up to whole requests
    #[arg(long, short = 'n', default_value_t = 500_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub points: u32,
    /// The worker, which is stopped with its children while points are sent: only storing them is timed
    #[arg(long, value_name = "PID")]
    pub hold: Option<u32>,
    /// The newest points first, so that each batch lies before all that is stored of its hours
    #[arg(long)]
    pub backwards: bool,
    /// Longest wait for the last point to be stored, up to 600s
    #[arg(long, default_value = "300s", value_parser = parse_duration, value_name = "TIME")]
    pub within: Duration,
}

#[derive(Debug, Clone, Args)]
pub struct FlowArgs {
    /// Points due per second
    #[arg(long, default_value_t = 30_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub rate: u32,
    /// Time of each run, up to 600s
    #[arg(long, short = 'd', default_value = "60s", value_parser = parse_duration, value_name = "TIME")]
    pub duration: Duration,
    /// Longest wait for the last point to be stored, and for a single one to be read, up to 600s
    #[arg(long, default_value = "60s", value_parser = parse_duration, value_name = "TIME")]
    pub within: Duration,
}

#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// Size of the file, in MB of NDJSON
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub megabytes: u32,
    /// Longest wait for the import, and again for the last point to be stored, up to 600s
    #[arg(long, default_value = "600s", value_parser = parse_duration, value_name = "TIME")]
    pub within: Duration,
}

#[derive(Debug, Clone, Args)]
pub struct MoveArgs {
    /// How long, up to 600s
    #[arg(long = "for", default_value = "600s", value_parser = parse_duration, value_name = "TIME")]
    pub time: Duration,
}
