//! The command line of `millrace-loadtest overload`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::address::HttpUrl;
use crate::http::{connections_parser, parse_duration};
use crate::session::Account;

/// Finds the peak of a mix of requests, then sends multiples of it on a schedule that does not wait.
///
/// Measures goodput as a share of the peak, how soon requests are shed, what probes meet meanwhile, the server's memory, and how soon
/// all is well afterwards. Ends with a ledger: every job and point that was accepted must be there. Pin the server to one core and this to
/// another, and raise the platform's rate limits; infra/local/bench-overload does both.
#[derive(Debug, Clone, Args)]
pub struct OverloadArgs {
    /// The platform
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    pub url: HttpUrl,
    #[command(flatten)]
    pub account: Account,
    /// Shares of reads (GET /jobs/{id}), submits (POST /jobs, each with an Idempotency-Key) and points (POST /points)
    #[arg(long, default_value = "6,3,1", value_name = "READS,JOBS,POINTS")]
    pub mix: Mix,
    /// Points of one request
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub batch: u32,
    /// Keep-alive connections of the overload: as many requests can be in flight or waiting
    #[arg(long, short = 'c', default_value_t = 1_000, value_parser = connections_parser())]
    pub connections: u32,
    /// Connections among which the peak is looked for, each in the closed loop
    #[arg(long, value_delimiter = ',', default_value = "16,64,256", value_parser = connections_parser())]
    pub peak_connections: Vec<u32>,
    /// Loads, as multiples of the peak; the first of them below 1 is what latencies are compared with
    #[arg(long, value_delimiter = ',', default_value = "0.8,2,3", value_parser = parse_load, num_args = 1..=8)]
    pub loads: Vec<f64>,
    /// Measured time of each load, up to 600s
    #[arg(long, short = 'd', default_value = "20s", value_parser = parse_duration, value_name = "TIME")]
    pub duration: Duration,
    /// Measured time of each look for the peak
    #[arg(long, default_value = "10s", value_parser = parse_duration, value_name = "TIME")]
    pub peak_duration: Duration,
    /// Time before each that is not measured
    #[arg(long, default_value = "1s", value_parser = parse_duration, value_name = "TIME")]
    pub warmup: Duration,
    /// An answer that takes longer is of no use: it is not counted as goodput
    #[arg(long, default_value = "1s", value_parser = parse_duration, value_name = "TIME")]
    pub deadline: Duration,
    /// Longest wait for a connection or a response
    #[arg(long, default_value = "10s", value_parser = parse_duration, value_name = "TIME")]
    pub timeout: Duration,
    /// Longest wait for accepted jobs to end and for points to be stored, up to 600s
    #[arg(long, default_value = "300s", value_parser = parse_duration, value_name = "TIME")]
    pub within: Duration,
    /// Threads that send
    #[arg(long, short = 't', default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// Processes of the server whose CPU and memory to report, as in 4711,4712
    #[arg(long, value_delimiter = ',')]
    pub server_pid: Vec<u32>,
    /// Leaves queue and tracks where they are
    #[arg(long)]
    pub keep: bool,
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

/// Requests of each kind in one round of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Mix {
    pub reads: u32,
    pub jobs: u32,
    pub points: u32,
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shares: Vec<u32> = text.split(',').map_while(|share| share.parse().ok()).filter(|share| *share <= 20).collect();
        match shares[..] {
            [reads, jobs, points] if text.split(',').count() == 3 && reads + jobs + points > 0 => Ok(Self { reads, jobs, points }),
            _ => Err("three shares of 0 to 20, not all 0, as in 6,3,1".into()),
        }
    }
}

fn parse_load(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(load) if (0.1..=10.0).contains(&load) => Ok(load),
        Ok(_) | Err(_) => Err("a multiple of the peak is 0.1 to 10".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_is_three_shares() {
        assert_eq!("6,3,1".parse(), Ok(Mix { reads: 6, jobs: 3, points: 1 }));
        for text in ["", "1", "1,2", "0,0,0", "1,2,x", "1,2,3,4", "21,0,0", "1,2,"] {
            assert!(text.parse::<Mix>().is_err(), "{text}");
        }
    }
}
