//! What is refused although its signature or cache says yes: sessions, API keys, and users' tokens below a version.
//!
//! A revocation is a row written in the transaction of the change (`record`), then told to every process
//! (`Accounts::announce`); each keeps it in memory until nothing is left that it could refuse.

use super::{Accounts, store};
use crate::{
    Result,
    caller::Credential,
    clock::unix_ms,
    ids::{ApiKeyId, SessionId, UserId},
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use std::{
    collections::HashMap,
    fmt,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use time::{Duration, OffsetDateTime};
use tokio::sync::watch;
use uuid::Uuid;

/// Kept so much longer than what it refuses, for clocks that differ and caches that have not looked again.
const MARGIN: Duration = Duration::minutes(5);

/// Longest an access token can live: the upper end of `JWT_ACCESS_TTL_S`.
pub(super) const ACCESS_TTL_MAX: Duration = Duration::days(1);

/// Refuses all versions there can be.
const EVERY_VERSION: i32 = i32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revoked {
    Session(SessionId),
    ApiKey(ApiKeyId),
    User { id: UserId, min_version: i32 },
}

/// The message and the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    pub revoked: Revoked,
    pub expires_at_ms: i64,
}

impl Revocation {
    /// `access_expires_at` is when the session's last access token ends.
    pub fn session(id: SessionId, access_expires_at: OffsetDateTime, now: OffsetDateTime) -> Self {
        Self::new(Revoked::Session(id), access_expires_at.max(now))
    }

    pub fn api_key(id: ApiKeyId, now: OffsetDateTime) -> Self {
        Self::new(Revoked::ApiKey(id), now)
    }

    /// Of all tokens of the user with a version below `min_version`.
    pub fn user(id: UserId, min_version: i32, now: OffsetDateTime) -> Self {
        Self::new(Revoked::User { id, min_version }, now + ACCESS_TTL_MAX)
    }

    /// Of everything of a user that is gone.
    pub fn deleted_user(id: UserId, now: OffsetDateTime) -> Self {
        Self::user(id, EVERY_VERSION, now)
    }

    fn new(revoked: Revoked, until: OffsetDateTime) -> Self {
        Self { revoked, expires_at_ms: unix_ms(until + MARGIN) }
    }
}

/// Writes `revocations` in the transaction of the change they are of; announce them after its commit.
pub(super) async fn record(tx: &mut PgConnection, revocations: &[Revocation]) -> Result<()> {
    if revocations.is_empty() { Ok(()) } else { store::revocations::insert(tx, revocations).await }
}

impl Accounts {
    /// Changes whenever something is revoked: what was proved before is to be looked at again ([`is_revoked`](Self::is_revoked)).
    pub fn revocation_news(&self) -> watch::Receiver<u64> {
        self.revocations.news.subscribe()
    }

    /// Applies `revocations` here and tells the other processes. Best effort: who misses the message polls the rows.
    pub(super) async fn announce(&self, revocations: &[Revocation]) {
        for revocation in revocations {
            self.revocations.apply(revocation);
            let message = serde_json::to_string(revocation).expect("a revocation is plain data");
            let mut redis = self.ctx.redis.connection();
            let told = redis::cmd("PUBLISH").arg(self.ctx.keys.revocations()).arg(message).exec_async(&mut redis).await;
            if let Err(error) = told {
                tracing::warn!(%error, "a revocation is not announced; other processes find it at their next poll");
            }
        }
    }
}

const SHARDS: usize = 64;

/// The revocations a process knows of. Reading takes the lock of one shard of 64, and none while nothing is revoked.
pub struct Revocations {
    /// Whether the rows have been read once: before, nothing may be believed.
    complete: AtomicBool,
    count: AtomicUsize,
    shards: [RwLock<HashMap<Uuid, Mark>>; SHARDS],
    /// Counts up when something is revoked, for those who act by what was proved a while ago.
    news: watch::Sender<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    min_version: i32,
    expires_at_ms: i64,
}

impl Default for Revocations {
    fn default() -> Self {
        Self {
            complete: AtomicBool::new(false),
            count: AtomicUsize::new(0),
            shards: std::array::from_fn(|_| RwLock::default()),
            news: watch::Sender::new(0),
        }
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations").field("complete", &self.complete).field("count", &self.count).finish_non_exhaustive()
    }
}

impl Revocations {
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    pub(super) fn set_complete(&self) {
        self.complete.store(true, Ordering::Release);
    }

    /// Whether the session or key, or its user's tokens of `version`, are revoked.
    pub fn refuses(&self, credential: Credential, user_id: UserId, version: i32) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let credential_id = match credential {
            Credential::Session(id) => id.0,
            Credential::ApiKey(id) => id.0,
            Credential::Schedule(id) => id.0,
            Credential::Batch(id) => id.0,
        };
        self.min_version(credential_id).is_some() || self.min_version(user_id.0).is_some_and(|min_version| version < min_version)
    }

    fn min_version(&self, id: Uuid) -> Option<i32> {
        self.shard(id).read().unwrap_or_else(PoisonError::into_inner).get(&id).map(|mark| mark.min_version)
    }

    /// Idempotent, and whatever the order: the strictest wins. Returns whether it was news.
    pub(super) fn apply(&self, revocation: &Revocation) -> bool {
        let (id, min_version) = match revocation.revoked {
            Revoked::Session(id) => (id.0, EVERY_VERSION),
            Revoked::ApiKey(id) => (id.0, EVERY_VERSION),
            Revoked::User { id, min_version } => (id.0, min_version),
        };
        let mut shard = self.shard(id).write().unwrap_or_else(PoisonError::into_inner);
        let mut news = false;
        let mark = shard.entry(id).or_insert_with(|| {
            self.count.fetch_add(1, Ordering::AcqRel);
            news = true;
            Mark { min_version, expires_at_ms: revocation.expires_at_ms }
        });
        news |= min_version > mark.min_version;
        mark.min_version = mark.min_version.max(min_version);
        mark.expires_at_ms = mark.expires_at_ms.max(revocation.expires_at_ms);
        drop(shard);
        if news {
            self.news.send_modify(|n_revoked| *n_revoked += 1);
        }
        news
    }

    /// Forgets what has nothing left to refuse.
    pub(super) fn prune(&self, now_ms: i64) {
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            let before = shard.len();
            shard.retain(|_, mark| mark.expires_at_ms > now_ms);
            self.count.fetch_sub(before - shard.len(), Ordering::AcqRel);
        }
    }

    /// By the last byte: the first ones of a version 7 id are the time.
    fn shard(&self, id: Uuid) -> &RwLock<HashMap<Uuid, Mark>> {
        &self.shards[usize::from(id.as_bytes()[15]) % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strictest_revocation_of_a_user_wins_in_any_order() {
        let (revocations, user, session) = (Revocations::default(), UserId::new(), Credential::Session(SessionId::new()));
        let now = OffsetDateTime::now_utc();
        assert!(revocations.apply(&Revocation::user(user, 3, now)));
        assert!(!revocations.apply(&Revocation::user(user, 2, now)));
        assert!(revocations.refuses(session, user, 2));
        assert!(!revocations.refuses(session, user, 3));
        assert!(revocations.apply(&Revocation::deleted_user(user, now)));
        assert!(revocations.refuses(session, user, 1_000_000));
    }

    #[test]
    fn a_revocation_is_forgotten_after_the_last_token_it_refuses() {
        let (revocations, user, id) = (Revocations::default(), UserId::new(), SessionId::new());
        let now = OffsetDateTime::now_utc();
        let access_expires_at = now + Duration::minutes(15);
        revocations.apply(&Revocation::session(id, access_expires_at, now));
        revocations.prune(unix_ms(access_expires_at));
        assert!(revocations.refuses(Credential::Session(id), user, 1));
        revocations.prune(unix_ms(access_expires_at + MARGIN));
        assert!(!revocations.refuses(Credential::Session(id), user, 1));
        assert_eq!(revocations.count.load(Ordering::Acquire), 0);
    }
}
