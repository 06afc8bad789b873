//! The command line of `millrace-api`.

mod admin;
mod capacity;
mod check_config;
mod doctor;
mod healthcheck;
mod migrate;
mod serve;
mod token;

use self::doctor::Asked;
use crate::{openapi, problems};
use clap::{Parser, Subcommand};
use shared::{
    Context,
    accounts::Accounts,
    config::{Layers, Problems, Settings},
    limits::Limiter,
    telemetry::metric,
};
use std::{
    io::{self, Write},
    net::IpAddr,
    process::ExitCode,
};

/// The REST and realtime edge of Millrace. Settings come from the environment; .env.example lists them.
#[derive(Debug, Parser)]
#[command(name = "millrace-api", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server.
    Serve {
        /// Overrides API_HOST.
        #[arg(long)]
        host: Option<IpAddr>,
        /// Overrides API_PORT; 0 takes a free port.
        #[arg(long)]
        port: Option<u16>,
    },
    /// Check the configuration and say what is in force, without secrets.
    CheckConfig,
    /// Look at the servers and limits that a good run depends on; exit code 1 when something is bad.
    Doctor {
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// Seconds that the service manager waits before it kills, where no systemd unit tells: stop_grace_period, terminationGracePeriodSeconds.
        #[arg(long, value_name = "SECONDS")]
        stop_timeout: Option<u64>,
        /// The port of an API process of this host; again for each, in place of API_PORT.
        #[arg(long = "port", value_name = "PORT")]
        ports: Vec<u16>,
    },
    /// Say what to set for this machine, and why: threads, pools, memory, job slots, nodes.
    Capacity {
        /// For so many concurrent users; without it for what goes on now.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=shared::capacity::USERS_MAX))]
        users: Option<u64>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Apply the migrations that the database has not seen.
    Migrate,
    /// Manage administrators.
    #[command(subcommand)]
    Admin(admin::AdminCommand),
    /// Make signing keys and access tokens.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Ask a running server whether it is ready; exit code 0 if so.
    Healthcheck {
        /// The server's address; API_HOST and API_PORT by default.
        #[arg(long)]
        url: Option<String>,
        /// Overrides API_PORT, as in `serve`.
        #[arg(long, conflicts_with = "url")]
        port: Option<u16>,
    },
    /// Print the OpenAPI document.
    Openapi {
        /// As OpenAPI 3.0.
        #[arg(long, conflicts_with = "problems")]
        v3_0: bool,
        /// The list of problems as Markdown instead.
        #[arg(long)]
        problems: bool,
        /// The list of metrics as Markdown instead.
        #[arg(long, conflicts_with_all = ["problems", "v3_0"])]
        metrics: bool,
    },
}

/// Exit code of a command that was called or configured wrongly.
const MISUSE: u8 = 2;

impl Cli {
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Serve { host, port } => {
                let host = host.map(|host| ("API_HOST", host.to_string()));
                let port = port.map(|port| ("API_PORT", port.to_string()));
                let flags: Vec<_> = host.into_iter().chain(port).collect();
                with_settings(&flags, serve::run)
            }
            Command::CheckConfig => check_config(),
            Command::Doctor { json, stop_timeout, ports } => {
                with_settings(&[], |settings, _| doctor::run(settings, json, &Asked { stop_timeout_s: stop_timeout, ports }))
            }
            Command::Capacity { users, json } => with_settings(&[], |settings, _| capacity::run(settings, users, json)),
            Command::Migrate => with_settings(&[], |settings, _| migrate::run(&settings)),
            Command::Admin(command) => with_settings(&[], |settings, _| admin::run(&command, settings)),
            Command::Token(command) => token::run(command),
            Command::Healthcheck { url, port } => healthcheck::run(url, port),
            Command::Openapi { metrics: true, .. } => print(metric::markdown()),
            Command::Openapi { v3_0, problems, .. } => print(match (v3_0, problems) {
                (_, true) => problems::markdown(),
                (true, false) => openapi::document_3_0_json().to_owned(),
                (false, false) => openapi::document_json().to_owned(),
            }),
        }
    }
}

fn check_config() -> ExitCode {
    let layers = match Layers::from_process(&[]) {
        Ok(layers) => layers,
        Err(problems) => return misused(&problems),
    };
    complain_of(&layers.notices);
    match Settings::load(&layers) {
        Ok(settings) => check_config::run(&layers, &settings),
        Err(problems) => misused(&problems),
    }
}

/// Loads the settings and runs `command` with them and the notices of their loading; all problems are told at once.
fn with_settings(flags: &[(&str, String)], command: impl FnOnce(Settings, Vec<String>) -> ExitCode) -> ExitCode {
    match load(flags) {
        Ok((settings, notices)) => command(settings, notices),
        Err(problems) => misused(&problems),
    }
}

fn misused(problems: &Problems) -> ExitCode {
    complain(&problems.to_string());
    ExitCode::from(MISUSE)
}

fn load(flags: &[(&str, String)]) -> Result<(Settings, Vec<String>), Problems> {
    let layers = Layers::from_process(flags)?;
    // A name that is misspelt is often the reason for what is wrong.
    let settings = Settings::load(&layers).inspect_err(|_| complain_of(&layers.notices))?;
    Ok((settings, layers.notices))
}

/// Accounts for a command, without what serves requests.
async fn open_accounts(settings: Settings) -> shared::Result<Accounts> {
    Accounts::open(Context::open(settings)?, Limiter::new(1)).await
}

/// A runtime for commands that only ask something.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts").block_on(future)
}

/// Writes the command's result; a closed pipe is not our failure.
fn print(text: impl AsRef<str>) -> ExitCode {
    let mut stdout = io::stdout().lock();
    drop(stdout.write_all(text.as_ref().as_bytes()).and_then(|()| stdout.flush()));
    ExitCode::SUCCESS
}

fn complain(text: &str) {
    drop(writeln!(io::stderr(), "{}", text.trim_end()));
}

fn complain_of(notices: &[String]) {
    notices.iter().for_each(|notice| complain(notice));
}

fn failed(error: &shared::Error) -> ExitCode {
    complain(&error.told());
    ExitCode::FAILURE
}
