//! `doctor`: looks at everything outside this binary that a good run depends on, and says what to do about it.

mod postgres;
mod redis;
mod stopping;

use nix::sys::resource::{Resource, getrlimit};
use serde::Serialize;
use shared::{Context, accounts::key_ring::KeyRing, config::Settings};
use std::{
    fmt::Write,
    net::{SocketAddr, TcpListener},
    process::ExitCode,
};

/// What one look found.
#[derive(Debug, Serialize)]
struct Finding {
    verdict: Verdict,
    /// What was looked at: `port`, `files`, `keys`, `postgres`, `pools`, `clock`, `migrations`, `redis`, `stopping`.
    subject: &'static str,
    words: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    /// Works, but not as well or as safely as it could.
    Doubt,
    Bad,
}

impl Finding {
    fn good(subject: &'static str, words: impl Into<String>) -> Self {
        Self { verdict: Verdict::Good, subject, words: words.into() }
    }

    fn doubt(subject: &'static str, words: impl Into<String>) -> Self {
        Self { verdict: Verdict::Doubt, subject, words: words.into() }
    }

    fn bad(subject: &'static str, words: impl Into<String>) -> Self {
        Self { verdict: Verdict::Bad, subject, words: words.into() }
    }
}

/// All findings, as JSON has them.
#[derive(Debug, Serialize)]
struct Report {
    /// False when any finding is bad; the exit code says the same.
    ok: bool,
    findings: Vec<Finding>,
}

/// What the machine does not tell.
#[derive(Debug)]
pub(super) struct Asked {
    pub stop_timeout_s: Option<u64>,
    /// Of the API processes here; none: that of the settings.
    pub ports: Vec<u16>,
}

pub(super) fn run(settings: Settings, is_json: bool, asked: &Asked) -> ExitCode {
    let findings = super::block_on(examine(settings, asked));
    let report = Report { ok: findings.iter().all(|finding| finding.verdict != Verdict::Bad), findings };
    super::print(if is_json { serde_json::to_string_pretty(&report).expect("findings are text") + "\n" } else { report.text() });
    if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Report {
    fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let mark = match finding.verdict {
                Verdict::Good => "ok  ",
                Verdict::Doubt => "warn",
                Verdict::Bad => "BAD ",
            };
            writeln!(text, "{mark}  {}: {}", finding.subject, finding.words).expect("writing to a string cannot fail");
        }
        text
    }
}

async fn examine(settings: Settings, asked: &Asked) -> Vec<Finding> {
    let mut findings = look_at_ports(&settings, &asked.ports);
    findings.push(look_at_files(&settings));
    findings.push(look_at_keys(&settings));
    findings.extend(stopping::look(&settings, asked.stop_timeout_s));
    // Of a server that is away one attempt tells enough.
    match Context::open_spare(settings) {
        Ok(ctx) => {
            findings.extend(postgres::look(&ctx).await);
            findings.extend(redis::look(&ctx).await);
        }
        Err(error) => findings.push(Finding::bad("settings", error.told())),
    }
    findings
}

/// Those of the API, and the worker's own of this machine.
fn look_at_ports(settings: &Settings, told: &[u16]) -> Vec<Finding> {
    let own = [("API_PORT", settings.api_port)];
    let of_apis = if told.is_empty() { own.to_vec() } else { told.iter().map(|port| ("--port", *port)).collect() };
    let apis = of_apis.into_iter().map(|(source, port)| (source, SocketAddr::new(settings.api_host, port)));
    let others = [("METRICS_ADDR", settings.metrics_addr), ("WORKER_METRICS_ADDR", settings.worker_metrics_addr)];
    apis.chain(others.into_iter().filter_map(|(setting, address)| Some((setting, address?))))
        .map(|(setting, address)| match TcpListener::bind(address) {
            Ok(_) => Finding::good("port", format!("{address} is free ({setting})")),
            Err(error) => {
                Finding::doubt("port", format!("{address} cannot be bound ({setting}: {error}); fine if Millrace itself is running"))
            }
        })
        .collect()
}

fn look_at_files(settings: &Settings) -> Finding {
    let beside = settings.db_pool_max() as usize + settings.redis_max_connections + 500;
    let wanted = (settings.api_workers() * settings.api_concurrency_limit + settings.ws_max_connections + beside) as u64;
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, _)) if soft >= wanted => Finding::good("files", format!("the limit of {soft} open files is enough")),
        Ok((soft, hard)) => Finding::doubt(
            "files",
            format!(
                "the limit is {soft} (at most {hard}); WS_MAX_CONNECTIONS, API_CONCURRENCY_LIMIT and the pools together may need {wanted}: \
                 raise LimitNOFILE or `ulimit -n`, or lower them"
            ),
        ),
        Err(error) => Finding::doubt("files", format!("the limit cannot be read ({error})")),
    }
}

fn look_at_keys(settings: &Settings) -> Finding {
    match KeyRing::load(settings) {
        Ok(_) => Finding::good("keys", "tokens can be signed"),
        Err(error) if settings.profile.is_development() => {
            Finding::doubt("keys", format!("{}; in development the API makes them when it starts", error.told()))
        }
        Err(error) => Finding::doubt("keys", format!("{}; the API does not start without, a worker needs none", error.told())),
    }
}

/// Clocks that differ more make leases, tokens and time limits end at other times than they say.
const CLOCK_TOLERANCE_S: f64 = 1.0;

fn look_at_clock(server: &str, ahead_s: f64) -> Finding {
    if ahead_s.abs() <= CLOCK_TOLERANCE_S {
        return Finding::good("clock", format!("{server}'s is within a second of ours"));
    }
    let (distance_s, side) = (ahead_s.abs(), if ahead_s > 0.0 { "ahead of" } else { "behind" });
    Finding::doubt("clock", format!("{server}'s is {distance_s:.1} s {side} ours: let NTP set both"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_differ_by_a_second_either_way() {
        assert_eq!([0.9, -0.9].map(|ahead_s| look_at_clock("Redis", ahead_s).verdict), [Verdict::Good; 2]);
        assert_eq!(look_at_clock("Redis", -1.1).words, "Redis's is 1.1 s behind ours: let NTP set both");
    }

    #[test]
    fn a_report_is_as_good_as_its_worst_finding_and_says_so_either_way() {
        let report = Report { ok: false, findings: vec![Finding::good("port", "free"), Finding::bad("redis", "away")] };
        assert_eq!(report.text(), "ok    port: free\nBAD   redis: away\n");
        let json = serde_json::to_value(&report).expect("findings are text");
        assert_eq!(json["findings"][1], serde_json::json!({"verdict": "bad", "subject": "redis", "words": "away"}));
    }
}
