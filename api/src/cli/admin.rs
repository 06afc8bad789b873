//! `admin`: what an operator does for accounts at the machine.

use clap::Subcommand;
use rand::{RngExt, distr::Alphanumeric};
use secrecy::{ExposeSecret, SecretString};
use shared::{
    Code, Error, Result,
    accounts::{
        Origin,
        command_line::{AdminCreated, create_admin},
        reset::issue_reset,
    },
    config::Settings,
};
use std::process::ExitCode;

const MADE_PASSWORD_CHARS: usize = 24;

#[derive(Debug, Subcommand)]
pub(super) enum AdminCommand {
    /// Make an administrator. The password is ADMIN_PASSWORD; without it one is made and printed.
    Create {
        #[arg(long)]
        email: String,
    },
    /// Make a token that sets a forgotten password: good once, for 30 minutes, at POST /api/v1/auth/password/reset.
    Reset {
        #[arg(long)]
        email: String,
    },
}

pub(super) fn run(command: &AdminCommand, settings: Settings) -> ExitCode {
    let done = match command {
        AdminCommand::Create { email } => super::block_on(create(email, settings)),
        AdminCommand::Reset { email } => super::block_on(reset(email, settings)),
    };
    match done {
        Ok(text) => super::print(text),
        Err(error) => super::failed(&error),
    }
}

async fn create(email: &str, settings: Settings) -> Result<String> {
    let (password, told) = match settings.admin_password.clone() {
        Some(password) => (password, String::new()),
        None => {
            let password = made_password();
            let told = format!("password: {}\n", password.expose_secret());
            (password, told)
        }
    };
    let accounts = super::open_accounts(settings).await?;
    match create_admin(&accounts, email, &password).await? {
        AdminCreated::Created(user) => Ok(format!("administrator {} is made\n{told}", user.email)),
        AdminCreated::Existed(user) => {
            let text = format!("there is already an account {}, with the role {}; it is left as it was", user.email, user.role.as_str());
            Err(Error::new(Code::EmailTaken, text))
        }
    }
}

async fn reset(email: &str, settings: Settings) -> Result<String> {
    let accounts = super::open_accounts(settings).await?;
    let token = issue_reset(&accounts.ctx, email, &Origin::default()).await?.ok_or_else(|| Error::not_found("enabled account"))?;
    Ok(format!("{}\n", token.expose_secret()))
}

fn made_password() -> SecretString {
    rand::rng().sample_iter(Alphanumeric).take(MADE_PASSWORD_CHARS).map(char::from).collect::<String>().into()
}
