//! The command line of `millrace-loadtest http`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::address::HttpUrl;
use crate::client::Method;
use crate::session::Account;

const MAX_DURATION: Duration = Duration::from_secs(600);

/// Sends HTTP requests and measures the answers.
///
/// Closed loop by default: each connection sends its next request when the last is answered.
/// With --rate or --rate-ladder it is an open loop: requests are due on a schedule, and latency
/// counts from the time a request was due, so a stall of the server is seen in full.
#[derive(Debug, Clone, Args)]
pub struct HttpArgs {
    /// The platform's API processes; connections are dealt out over them, and the first is asked while setting up
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:8000")]
    pub url: Vec<HttpUrl>,

    /// What to ask for
    #[arg(long, value_enum, default_value_t = Target::Healthz)]
    pub target: Target,
    /// Any other path instead, with query
    #[arg(long, conflicts_with = "target")]
    pub path: Option<String>,
    /// Method for --path
    #[arg(long, requires = "path", ignore_case = true, default_value = "GET")]
    pub method: Method,
    /// Body for --path; sent as JSON unless a header says otherwise
    #[arg(long, requires = "path")]
    pub body: Option<String>,
    /// A further header, `Name: value`; may be repeated
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// Jobs that job-get submits first and then reads in rotation
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub jobs: u32,

    /// Keep-alive connections, up to 100,000; beyond what one process may open they are held by several
    #[arg(long, short = 'c', default_value_t = 100, value_parser = ladder_parser())]
    pub connections: u32,
    /// Several numbers of connections, one row each, as in 100,1000,5000
    #[arg(long, value_delimiter = ',', conflicts_with = "connections", value_parser = ladder_parser())]
    pub ladder: Vec<u32>,
    /// Open loop: requests due per second, over all connections
    #[arg(long, value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// Several rates, one row each; `0.5x` is half of the peak, which is measured first
    #[arg(long, value_delimiter = ',', conflicts_with = "rate")]
    pub rate_ladder: Vec<RateStep>,
    /// Open loop: requests due but not sent that may wait for a connection; more are given up
    #[arg(long, default_value_t = 10_000)]
    pub max_waiting: u64,

    /// Measured time of each run, up to 600s
    #[arg(long, short = 'd', default_value = "10s", value_parser = parse_duration, value_name = "TIME")]
    pub duration: Duration,
    /// Time before it that is not measured
    #[arg(long, default_value = "1s", value_parser = parse_duration, value_name = "TIME")]
    pub warmup: Duration,
    /// Longest wait for a connection or a response
    #[arg(long, default_value = "10s", value_parser = parse_duration, value_name = "TIME")]
    pub timeout: Duration,
    /// Runs per row; the row shows the median of each figure
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub repeat: u32,
    /// Threads that send; half of the cores unless given
    #[arg(long, short = 't', value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: Option<u32>,

    #[command(flatten)]
    pub account: Account,

    /// Another server, measured in turns with the target, and the ratio of the two
    #[arg(long)]
    pub reference_url: Option<HttpUrl>,
    /// Processes of the server whose CPU and memory to report, as in 4711,4712
    #[arg(long, value_delimiter = ',')]
    pub server_pid: Vec<u32>,
    /// The same for the reference
    #[arg(long, value_delimiter = ',', requires = "reference_url")]
    pub reference_pid: Vec<u32>,

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

/// The ready-made requests. To add one: a variant here and its request in `aim.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// GET /healthz
    Healthz,
    /// GET /api/v1/jobs/{id} over jobs that have ended
    JobGet,
    /// POST /api/v1/jobs with a debug.echo job
    JobSubmit,
    /// GET /api/v1/jobs
    JobsList,
    /// GET /api/v1/auth/me
    Me,
    /// What operators look at: GET /api/v1/queues, one queue, its dead letters, and the workers, in rotation
    Queues,
}

impl Target {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Target::Healthz => "healthz",
            Target::JobGet => "job-get",
            Target::JobSubmit => "job-submit",
            Target::JobsList => "jobs-list",
            Target::Me => "me",
            Target::Queues => "queues",
        }
    }
}

/// A step of the rate ladder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RateStep {
    PerSecond(f64),
    /// A multiple of what the closed loop reached with as many connections.
    TimesPeak(f64),
}

impl FromStr for RateStep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_suffix('x') {
            Some(factor) => match factor.parse() {
                Ok(factor) if (0.01..=10.0).contains(&factor) => Ok(RateStep::TimesPeak(factor)),
                Ok(_) | Err(_) => Err("a multiple of the peak is 0.01x to 10x".into()),
            },
            None => parse_rate(text).map(RateStep::PerSecond),
        }
    }
}

/// Connections of a command that spreads them over processes.
fn ladder_parser() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=100_000)
}

/// Connections of one process.
pub(crate) fn connections_parser() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=20_000)
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.1..=10_000_000.0).contains(&rate) => Ok(rate),
        Ok(_) | Err(_) => Err("a rate is 0.1 to 10000000 requests per second".into()),
    }
}

/// `500ms`, `10s`, `2m`, or a bare number of seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let split_at = text.find(|c: char| c.is_ascii_alphabetic());
    let (number, unit) = text.split_at(split_at.unwrap_or(text.len()));
    let unit_s = match unit {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        _ => return Err("a duration is a number with ms, s or m".into()),
    };
    let number: f64 = number.parse().map_err(|_| "a duration is a number with ms, s or m")?;
    let duration = Duration::try_from_secs_f64(number * unit_s).map_err(|error| error.to_string())?;
    match duration {
        Duration::ZERO => Err("must be longer than nothing".into()),
        duration if duration > MAX_DURATION => Err("must be at most 600s".into()),
        duration => Ok(duration),
    }
}

#[cfg(test)]
impl HttpArgs {
    /// What is made of a command line that begins with the program's name.
    pub(super) fn typed(line: &str) -> Self {
        use clap::FromArgMatches;

        let matches = Self::augment_args(clap::Command::new("http")).get_matches_from(line.split(' '));
        Self::from_arg_matches(&matches).expect("clap has checked it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_a_bound() {
        let cases = [("500ms", 500), ("2", 2_000), ("1.5s", 1_500), ("10m", 600_000)];
        for (text, expected_ms) in cases {
            let expected = Duration::from_millis(expected_ms);
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
        for text in ["", "s", "0s", "601s", "-1s", "1h", "NaN", "1e300s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rate_steps_are_absolute_or_multiples_of_the_peak() {
        assert_eq!("250".parse(), Ok(RateStep::PerSecond(250.0)));
        assert_eq!("1.5x".parse(), Ok(RateStep::TimesPeak(1.5)));
        for text in ["x", "0", "-1", "0x", "11x", "NaN", "inf"] {
            assert!(text.parse::<RateStep>().is_err(), "{text}");
        }
    }
}
