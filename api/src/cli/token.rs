//! `token`: making signing keys, and access tokens for scripts at the machine.

use clap::Subcommand;
use shared::{
    Result,
    accounts::{command_line::issue_token, key_files},
    config::Settings,
};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};
use time::Duration;

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make the signing key and the refresh key, unless they are there.
    Keygen {
        /// The folder; JWT_KEYS_DIR by default.
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Add a signing key to those that are there. It signs after a reload (SIGHUP), unless the file `current` names another.
        #[arg(long)]
        rotate: bool,
    },
    /// Print an access token for a user.
    Issue {
        #[arg(long)]
        email: String,
        /// How long it is good: a number with s, m or h, at most 24h.
        #[arg(long, default_value = "1h", value_parser = parse_ttl)]
        ttl: Duration,
    },
}

pub(super) fn run(command: TokenCommand) -> ExitCode {
    match command {
        // With a folder named, no setting is needed: keys are made before there is a database.
        TokenCommand::Keygen { dir: Some(dir), rotate } => keygen(&dir, rotate),
        TokenCommand::Keygen { dir: None, rotate } => super::with_settings(&[], |settings, _| keygen(&settings.jwt_keys_dir, rotate)),
        TokenCommand::Issue { email, ttl } => {
            super::with_settings(&[], |settings, _| report(super::block_on(issue(&email, ttl, settings))))
        }
    }
}

fn keygen(dir: &Path, rotate: bool) -> ExitCode {
    let made = key_files::ensure_keys(dir).and_then(|()| if rotate { key_files::add_signing_key(dir).map(Some) } else { Ok(None) });
    report(made.map(|added| match added {
        Some(kid) => format!("signing key {kid} is added in {}\n", dir.display()),
        None => format!("keys are in {}\n", dir.display()),
    }))
}

async fn issue(email: &str, ttl: Duration, settings: Settings) -> Result<String> {
    let accounts = super::open_accounts(settings).await?;
    Ok(issue_token(&accounts, email, ttl).await? + "\n")
}

fn report(result: Result<String>) -> ExitCode {
    match result {
        Ok(text) => super::print(text),
        Err(error) => super::failed(&error),
    }
}

fn parse_ttl(text: &str) -> std::result::Result<Duration, String> {
    let allowed = || "a number with s, m or h, such as 8h".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(allowed)?;
    let number = i64::from(number.parse::<u32>().map_err(|_| allowed())?);
    match unit {
        "s" => Ok(Duration::seconds(number)),
        "m" => Ok(Duration::minutes(number)),
        "h" => Ok(Duration::hours(number)),
        _ => Err(allowed()),
    }
}
