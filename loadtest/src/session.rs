//! Who the load is sent as: nobody, the holder of a token, or an account that signs in and does so
//! again before its token runs out.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::Request;
use crate::control::Control;
use crate::error::Error;

/// Life a token must have left beyond the time it is needed for.
const TOKEN_MARGIN: Duration = Duration::from_secs(5);

/// An e-mail address and its password.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) email: String,
    pub(crate) password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads ADMIN_EMAIL= and ADMIN_PASSWORD= from the file that the first start leaves.
    pub(crate) fn from_admin_env(path: &Path) -> Result<Self, Error> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::usage(format!(
                "this target needs an account: give --email and --password, --token, or --admin-env, \
                 the file that the first start left ({shown}: {error})"
            ))
        })?;
        let value_of = |key: &str| {
            let value = text.lines().find_map(|line| line.trim().strip_prefix(key));
            value.map(|value| value.trim_matches(['"', '\'']).to_owned()).ok_or_else(|| Error::usage(format!("{shown} has no line {key}…")))
        };
        Ok(Self { email: value_of("ADMIN_EMAIL=")?, password: value_of("ADMIN_PASSWORD=")? })
    }
}

/// The options that say who sends, as every command has them.
#[derive(Debug, Clone, clap::Args)]
pub struct Account {
    /// Access token or API key
    #[arg(long, global = true, conflicts_with_all = ["email", "password"])]
    pub token: Option<String>,
    /// Account to sign in with
    #[arg(long, global = true, requires = "password")]
    pub email: Option<String>,
    #[arg(long, global = true, requires = "email")]
    pub password: Option<String>,
    /// File with ADMIN_EMAIL= and ADMIN_PASSWORD=, for targets that need an account
    #[arg(long, global = true, default_value = ".data/admin.env")]
    pub admin_env: PathBuf,
}

/// Whether what is asked needs an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Somebody,
    Nobody,
}

impl Account {
    /// Who these options name; without a name it is nobody, or the first start's administrator where somebody is needed.
    pub(crate) fn identity(&self, need: Need) -> Result<Identity, Error> {
        let account = |credentials| Identity::Account { credentials, signed_in: None };
        if let Some(token) = &self.token {
            let is_plain = token.bytes().all(|byte| byte.is_ascii_graphic());
            return match is_plain && !token.is_empty() {
                true => Ok(Identity::Token(token.clone())),
                false => Err(Error::usage("--token holds blanks or control characters")),
            };
        }
        if let (Some(email), Some(password)) = (&self.email, &self.password) {
            return Ok(account(Credentials { email: email.clone(), password: password.clone() }));
        }
        match need {
            Need::Somebody => Ok(account(Credentials::from_admin_env(&self.admin_env)?)),
            Need::Nobody => Ok(Identity::Anonymous),
        }
    }
}

/// What proves who sends.
pub(crate) enum Identity {
    Anonymous,
    Token(String),
    Account { credentials: Credentials, signed_in: Option<SignedIn> },
}

pub(crate) struct SignedIn {
    access_token: String,
    expires_at: Instant,
}

impl Identity {
    /// The token to send, good for at least `needed_for` if the platform gives such.
    pub(crate) fn token(&mut self, control: &mut Control, needed_for: Duration) -> Result<Option<&str>, Error> {
        match self {
            Identity::Anonymous => Ok(None),
            Identity::Token(token) => Ok(Some(token)),
            Identity::Account { credentials, signed_in } => {
                let needed_until = Instant::now() + needed_for + TOKEN_MARGIN;
                let kept = signed_in.take().filter(|kept| kept.expires_at > needed_until);
                let kept = match kept {
                    Some(kept) => kept,
                    None => sign_in(control, credentials)?,
                };
                Ok(Some(&signed_in.insert(kept).access_token))
            }
        }
    }
}

fn sign_in(control: &mut Control, credentials: &Credentials) -> Result<SignedIn, Error> {
    let body = json!({"email": credentials.email, "password": credentials.password});
    let request = Request::post_json("/api/v1/auth/login", &body);
    let session = control.expect(200, "signing in", &request)?;
    let access_token = session["access_token"].as_str();
    let expires_in_s = session["expires_in"].as_u64();
    match (access_token, expires_in_s) {
        (Some(access_token), Some(expires_in_s)) => {
            Ok(SignedIn { access_token: access_token.to_owned(), expires_at: Instant::now() + Duration::from_secs(expires_in_s) })
        }
        _ => Err(Error::failed("signing in: the answer holds no session")),
    }
}
