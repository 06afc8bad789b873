//! The command line of `millrace-loadtest ws`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::target::WsUrl;
use crate::http::parse_duration;
use crate::session::Account;

/// Sockets that one client process holds: a process may open 20,000 files on many machines, and some are not sockets.
pub(super) const SOCKETS_PER_CLIENT: u32 = 19_500;

/// Measures WebSockets: how many a server holds, echo, fan-out, stuck readers. Without a subcommand it is the capacity ramp.
///
/// Sockets are held by client processes that this one starts, and come from several loopback addresses, at most 5,000 from each.
#[derive(Debug, Clone, Args)]
pub struct WsArgs {
    #[command(subcommand)]
    pub measure: Option<Measure>,
    #[command(flatten)]
    pub capacity: CapacityArgs,

    /// The platform's API processes; sockets are dealt out over them in turn
    #[arg(long, global = true, value_delimiter = ',', default_value = "ws://127.0.0.1:8000")]
    pub url: Vec<WsUrl>,
    #[command(flatten)]
    pub account: Account,
    /// File with an access token per line: sockets connect with one after the other
    #[arg(long, global = true, conflicts_with_all = ["token", "email"])]
    pub tokens: Option<PathBuf>,
    /// Connects without a token
    #[arg(long, global = true, conflicts_with_all = ["token", "email", "tokens"])]
    pub anonymous: bool,
    /// Namespace of the channels
    #[arg(long, global = true, default_value = "chat")]
    pub namespace: String,
    /// Client processes; as few as hold the sockets unless given
    #[arg(long, global = true, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub clients: Option<u32>,
    /// Connections being made at once by each client process
    #[arg(long, global = true, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub at_once: u32,
    /// Runs; the figures are those of the run in the middle
    #[arg(long, global = true, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub repeat: u32,
    /// Longest wait for a socket to be connected and subscribed
    #[arg(long, global = true, default_value = "10s", value_parser = parse_duration, value_name = "TIME")]
    pub timeout: Duration,
    /// Processes of the server whose CPU and memory to report, as in 4711,4712
    #[arg(long, global = true, value_delimiter = ',')]
    pub server_pid: Vec<u32>,
    /// A bare server (the example bare_ws of the api crate), measured in turns with the platform, and the ratio of the two
    #[arg(long, global = true)]
    pub reference_url: Option<WsUrl>,
    /// The same for the reference
    #[arg(long, global = true, value_delimiter = ',', requires = "reference_url")]
    pub reference_pid: Vec<u32>,
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
    /// Opens more and more subscribed sockets: connects per second, memory and CPU per socket, sockets per worker
    Capacity(CapacityArgs),
    /// A request and its reply over and over on each socket
    Echo(EchoArgs),
    /// Publications to many subscribers, each with a ledger of its offsets
    #[command(alias = "fanout", alias = "broadcast")]
    FanOut(FanOutArgs),
    /// The same with and without readers that never read
    Stuck(StuckArgs),
}

#[derive(Debug, Clone, Args)]
pub struct CapacityArgs {
    /// Sockets at the end
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=300_000))]
    pub max: u32,
    /// Sockets opened in each step
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=300_000))]
    pub step: u32,
    /// Channels that the sockets are dealt out over; 0 subscribes to nothing
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=100_000))]
    pub channels: u32,
    /// How long each step is held: CPU is measured, and ten sockets are asked now and then
    #[arg(long, default_value = "3s", value_parser = parse_duration, value_name = "TIME")]
    pub hold: Duration,
    /// How long the last step is held; longer than the server's heartbeat proves that it is answered
    #[arg(long, default_value = "30s", value_parser = parse_duration, value_name = "TIME")]
    pub soak: Duration,
    /// Worker threads of each server, for the advice; counted from the threads' names unless given
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub workers: Option<u32>,
}

#[derive(Debug, Clone, Args)]
pub struct EchoArgs {
    /// Sockets
    #[arg(long, short = 'c', default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=300_000))]
    pub connections: u32,
    /// The method to call
    #[arg(long, default_value = "time")]
    pub method: String,
    /// Bytes of padding in each request
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=32_768))]
    pub size: u32,
    /// Measured time of each run, up to 600s
    #[arg(long, short = 'd', default_value = "5s", value_parser = parse_duration, value_name = "TIME")]
    pub duration: Duration,
    /// Time before it that is not measured
    #[arg(long, default_value = "1s", value_parser = parse_duration, value_name = "TIME")]
    pub warmup: Duration,
}

#[derive(Debug, Clone, Args)]
pub struct FanOutArgs {
    /// Sockets that subscribe
    #[arg(long, short = 'n', default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=300_000))]
    pub subscribers: u32,
    /// Channels that they are dealt out over
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub channels: u32,
    /// Publishers, each for one channel; one for each channel and client process unless given. The reference always has one
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub publishers: Option<u32>,
    /// How they publish: by a command on a subscriber's socket, or by POST /api/v1/channels/{channel}/publications
    #[arg(long, value_enum, default_value_t = PublishWay::Socket)]
    pub publish_by: PublishWay,
    /// Open loop: publications due per second, over all publishers
    #[arg(long, value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// Closed loop: publications on their way at once on each channel
    #[arg(long, default_value_t = 16, conflicts_with = "rate", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub window: u32,
    /// Publications in all; the run ends with the last, or with its time
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub publications: Option<u64>,
    /// Bytes of padding in each publication
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(..=32_768))]
    pub size: u32,
    /// Measured time of each run, up to 600s
    #[arg(long, short = 'd', default_value = "5s", value_parser = parse_duration, value_name = "TIME")]
    pub duration: Duration,
    /// Time before it that is not measured, though its publications are in the ledger
    #[arg(long, default_value = "1s", value_parser = parse_duration, value_name = "TIME")]
    pub warmup: Duration,
    /// Longest wait afterwards for what is under way
    #[arg(long, default_value = "10s", value_parser = parse_duration, value_name = "TIME")]
    pub settle: Duration,
}

#[derive(Debug, Clone, Args)]
pub struct StuckArgs {
    /// Readers that never read once they are subscribed, besides the subscribers
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub stuck: u32,
    #[command(flatten)]
    pub fan_out: FanOutArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PublishWay {
    Socket,
    Http,
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.1..=1_000_000.0).contains(&rate) => Ok(rate),
        Ok(_) | Err(_) => Err("a rate is 0.1 to 1000000 publications per second".into()),
    }
}
