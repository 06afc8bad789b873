//! Accounts: users, their sessions and API keys, and what each may do. In reading order:
//!
//! - [`rules`]: what an e-mail address, a name and a password must be; [`input`]: what operations are given.
//! - [`register`], [`login`], [`refresh`], [`sessions`], [`password`], [`reset`], [`api_keys`], [`users`], [`audit`]: the operations.
//! - [`authenticate`]: from the credential of a request to its [`Caller`](crate::Caller), without I/O for all but new API keys.
//! - [`key_files`], [`key_ring`], [`access_token`], [`refresh_token`], [`secret_token`]: keys and everything made with them.
//! - [`hashing`]: argon2id, bounded. [`revocations`], [`watch`]: what is refused although its signature holds.
//! - [`background`]: the tasks a process runs beside its requests; [`command_line`]: what only an operator at the machine does.
//!   [`prune`], [`removal`]: what maintenance removes.
//!
//! To add an operation: its file here, its statements under `store/`, its [`audit::Action`], its route.

pub mod access_token;
pub mod api_keys;
pub mod audit;
pub mod authenticate;
pub mod background;
pub mod command_line;
pub mod hashing;
pub mod input;
pub mod key_files;
pub mod key_ring;
pub mod login;
pub mod password;
pub mod prune;
pub mod refresh;
pub mod refresh_token;
pub mod register;
pub mod removal;
pub mod reset;
pub mod revocations;
pub mod rules;
pub mod secret_token;
pub mod sessions;
mod store;
mod throttle;
pub mod types;
pub mod users;
pub mod watch;

pub use authenticate::Proof;
pub use types::{ApiKey, ListedSession, Origin, Session, User};

use crate::{Context, Result, ids::ApiKeyId, limits::Limiter};
use arc_swap::ArcSwap;
use authenticate::Known;
use hashing::Passwords;
use key_ring::KeyRing;
use quick_cache::sync::Cache;
use revocations::Revocations;
use serde::de::DeserializeOwned;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;
use watch::Polled;

/// Uses of API keys that wait to be noted; beyond it a note is dropped, and the next use makes it.
const KEY_USES_WAITING: usize = 1_024;

/// What a process holds to serve accounts. Cheap to clone; one per process.
#[derive(Debug, Clone)]
pub struct Accounts {
    pub ctx: Context,
    keys: Arc<ArcSwap<KeyRing>>,
    /// Credentials that were verified, by the SHA-256 of their text.
    known: Arc<Cache<[u8; 32], Known>>,
    revocations: Arc<Revocations>,
    polled: Arc<Polled>,
    passwords: Passwords,
    limiter: Limiter,
    key_uses: mpsc::Sender<ApiKeyId>,
    /// Taken by the background task.
    key_uses_end: Arc<Mutex<Option<mpsc::Receiver<ApiKeyId>>>>,
}

impl Accounts {
    /// Reads the keys, and what is revoked. Without keys it fails (in development it makes them); without the database it
    /// opens, and refuses credentials until the background task has read the revocations.
    pub async fn open(ctx: Context, limiter: Limiter) -> Result<Self> {
        let settings = ctx.settings().clone();
        if settings.profile.is_development() && settings.jwt_alg == crate::config::JwtAlgorithm::EdDsa {
            key_files::ensure_keys(&settings.jwt_keys_dir)?;
        }
        let (key_uses, key_uses_end) = mpsc::channel(KEY_USES_WAITING);
        let accounts = Self {
            keys: Arc::new(ArcSwap::from_pointee(KeyRing::load(&settings)?)),
            known: Arc::new(Cache::new(settings.token_cache)),
            revocations: Arc::default(),
            polled: Arc::default(),
            passwords: Passwords::new(settings.password_hashes_max(), settings.password_queue_max),
            limiter,
            key_uses,
            key_uses_end: Arc::new(Mutex::new(Some(key_uses_end))),
            ctx,
        };
        if let Err(error) = accounts.poll_revocations().await {
            tracing::warn!(%error, "revocations cannot be read yet; credentials are refused until they are");
        }
        Ok(accounts)
    }

    /// The same on another context's connections, for a worker thread that has its own.
    #[must_use]
    pub fn on(&self, ctx: Context) -> Self {
        Self { ctx, ..self.clone() }
    }

    /// Reads the signing keys again (SIGHUP). Tokens of a key that is gone are refused from now on.
    pub fn reload_keys(&self) -> Result<()> {
        let fresh = KeyRing::load(&self.ctx.settings())?;
        self.keys.store(Arc::new(fresh));
        self.known.clear();
        Ok(())
    }

    /// What a token says that one of our keys signed for us; the caller judges time and type.
    pub(crate) fn verify_signed<T: DeserializeOwned>(&self, token: &str) -> Result<T> {
        self.keys.load().verify(token)
    }

    /// Whether a token names one of our keys as its own.
    pub(crate) fn knows_key(&self, kid: &str) -> bool {
        self.keys.load().knows(kid)
    }

    /// The public signing keys as JWKs (RFC 7517); none when signing is symmetric.
    pub fn public_keys(&self) -> Vec<serde_json::Value> {
        self.keys.load().public_keys()
    }
}
