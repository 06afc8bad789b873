//! The command line. To add a kind of load: a subcommand here, a folder beside `http`.

use clap::{Parser, Subcommand};

use crate::all::{self, AllArgs, ReportArgs};
use crate::error::Error;
use crate::files::{self, FilesArgs};
use crate::http::{self, HttpArgs};
use crate::ingest::{self, IngestArgs};
use crate::jobs::{self, JobsArgs};
use crate::output::Output;
use crate::overload::{self, OverloadArgs};
use crate::rolling::{self, RollingArgs};
use crate::saturation::{self, SaturationArgs};
use crate::ws::{self, WsArgs};

/// Load tests for Millrace: open and closed loop, on this machine unless told otherwise.
#[derive(Debug, Parser)]
#[command(name = "millrace-loadtest", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    // Boxed: the options of one subcommand are large, and moved about once per process.
    All(Box<AllArgs>),
    Files(Box<FilesArgs>),
    Http(Box<HttpArgs>),
    Ingest(Box<IngestArgs>),
    #[command(visible_alias = "queue")]
    Jobs(Box<JobsArgs>),
    Report(ReportArgs),
    Rolling(Box<RollingArgs>),
    Overload(Box<OverloadArgs>),
    Saturation(Box<SaturationArgs>),
    Ws(Box<WsArgs>),
    /// Holds connections for `http`, which starts it
    #[command(name = http::SHARE_COMMAND, hide = true)]
    HttpShare,
    /// Holds sockets for `ws`, which starts it
    #[command(name = ws::CLIENT_COMMAND, hide = true)]
    WsClient,
}

impl Cli {
    /// Does what the command line says.
    pub fn run(&self, output: &mut Output<'_>) -> Result<(), Error> {
        match &self.command {
            Command::All(args) => all::run(args, output).map(drop),
            Command::Files(args) => files::run(args, output).map(drop),
            Command::Http(args) => http::run(args, output).map(drop),
            Command::HttpShare => http::run_share(),
            Command::Ingest(args) => ingest::run(args, output).map(drop),
            Command::Jobs(args) => jobs::run(args, output).map(drop),
            Command::Report(args) => all::report(args, output),
            Command::Rolling(args) => rolling::run(args, output).map(drop),
            Command::Overload(args) => overload::run(args, output).map(drop),
            Command::Saturation(args) => saturation::run(args, output).map(drop),
            Command::Ws(args) => ws::run(args, output).map(drop),
            Command::WsClient => ws::run_client(),
        }
    }
}
