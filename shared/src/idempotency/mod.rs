//! Idempotency keys: a creation repeated with the same key gets the first one's answer, however often it is sent.
//!
//! The answer is stored in the transaction of the work itself, so there is no moment at which one exists without the
//! other. While the first request runs, an advisory lock makes the second one answer 409 at once instead of waiting.

pub(crate) mod store;

use crate::{Code, Error, Result, ids::UserId};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool};
use std::time::Duration;

/// How long answers are kept.
pub const KEPT: Duration = Duration::from_hours(24);

/// A key as a client sent it: 1 to 255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() || text.len() > 255 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::new(Code::InvalidHeader, "Idempotency-Key must be 1 to 255 visible ASCII characters."));
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One repeatable request: who sends it, to which route, under which key, with which body and query.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub principal: UserId,
    pub route: &'static str,
    pub key: IdempotencyKey,
    body_hash: [u8; 32],
}

/// An answer as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    pub status: u16,
    pub location: Option<String>,
    pub body: Vec<u8>,
}

impl Attempt {
    pub fn new(principal: UserId, route: &'static str, key: IdempotencyKey, body: &[u8]) -> Self {
        Self { principal, route, key, body_hash: Sha256::digest(body).into() }
    }

    /// Of a request whose query makes it another one than its body alone would.
    pub fn with_query(self, query: &str) -> Self {
        let body_hash = Sha256::new().chain_update(self.body_hash).chain_update(query).finalize().into();
        Self { body_hash, ..self }
    }

    /// Opens the attempt in the caller's transaction: `Some` is the answer to replay, `None` means do the work and
    /// [`record`](Self::record) its answer before the commit.
    pub async fn begin(&self, tx: &mut PgConnection) -> Result<Option<StoredAnswer>> {
        if !store::try_lock(tx, self.lock_id()).await? {
            let detail = "The first request with this Idempotency-Key is still running.";
            return Err(Error::new(Code::IdempotencyInProgress, detail).retry_after(Duration::from_secs(1)));
        }
        let Some((body_hash, answer)) = store::find(tx, self.principal, self.route, &self.key.0).await? else { return Ok(None) };
        if body_hash != self.body_hash {
            return Err(reused());
        }
        Ok(Some(answer))
    }

    pub async fn record(&self, tx: &mut PgConnection, answer: &StoredAnswer) -> Result<()> {
        store::insert(tx, self.principal, self.route, &self.key.0, &self.body_hash, answer).await
    }

    /// The advisory lock's number: 64 bits of a hash over everything that tells keys apart.
    fn lock_id(&self) -> i64 {
        let mut hash = Sha256::new();
        for part in [self.principal.0.as_bytes().as_slice(), self.route.as_bytes(), &[0], self.key.0.as_bytes()] {
            hash.update(part);
        }
        i64::from_be_bytes(hash.finalize()[..8].try_into().expect("a hash has 32 bytes"))
    }
}

/// An answer that was given before, for who asks the same again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    body_hash: Vec<u8>,
    answer: StoredAnswer,
}

/// What was answered with this key before. For requests whose body is dear to take: where there is an answer, the body is only compared. `None`
/// says nothing of what comes meanwhile; [`Attempt::begin`] does.
pub async fn earlier(pg: &PgPool, principal: UserId, route: &'static str, key: &IdempotencyKey) -> Result<Option<Earlier>> {
    let found = store::find(&mut *pg.acquire().await?, principal, route, &key.0).await?;
    Ok(found.map(|(body_hash, answer)| Earlier { body_hash, answer }))
}

impl Earlier {
    /// The answer, if `body` is that of the first request.
    pub fn answer_to(self, body: &[u8]) -> Result<StoredAnswer> {
        if self.body_hash == Sha256::digest(body).as_slice() { Ok(self.answer) } else { Err(reused()) }
    }
}

fn reused() -> Error {
    Error::new(Code::IdempotencyKeyReused, "This Idempotency-Key came with another body or query before.")
}

/// Forgets answers older than [`KEPT`], at most `limit` at once; returns how many.
pub async fn prune(pg: &PgPool, limit: i64) -> Result<u64> {
    store::delete_older_than(pg, KEPT, limit).await
}

#[cfg(test)]
mod tests;
