//! From the credential of a request to its caller. What was verified once is remembered: until it ends for an access
//! token, for a minute for an API key. Revocations are looked up every time, in memory.

use super::{Accounts, access_token, api_keys, refresh_token, secret_token, store};
use crate::{
    Caller, Code, Error, Result,
    caller::Credential,
    limits::{Class, Principal},
    page::{MAX_LIMIT, PageRequest},
    pg,
};
use sha2::{Digest, Sha256};
use std::{net::IpAddr, time::Duration};
use time::OffsetDateTime;

/// What a credential proved, for whoever keeps on acting by it: revocations are looked up by [`Accounts::is_revoked`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    pub caller: Caller,
    /// The user's token version when it was issued or looked up.
    pub version: i32,
    /// Then it ends; a key without an end has none.
    pub ends_at: Option<OffsetDateTime>,
}

/// A credential that was verified.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub caller: Caller,
    /// The user's token version when it was issued or looked up.
    pub version: i32,
    /// Then it ends, or must be looked up again.
    pub good_until: OffsetDateTime,
    /// Then it ends for good.
    pub ends_at: Option<OffsetDateTime>,
}

impl Accounts {
    /// The caller whom `credential` proves, an access token or an API key, which came from `address`. Whoever sent keys from there that
    /// there are not, more than `RATE_LIMIT_LOGIN` of them, waits before another is looked up; keys and tokens that are known go on.
    pub async fn authenticate(&self, credential: &str, address: IpAddr) -> Result<Caller> {
        Ok(self.prove(credential, address).await?.caller)
    }

    /// The same, with what it takes to ask later whether it still holds.
    pub async fn prove(&self, credential: &str, address: IpAddr) -> Result<Proof> {
        let known = match self.known_at_once(credential)? {
            Some(known) => known,
            None => self.look_up_for(credential, address).await?,
        };
        Ok(Proof { caller: known.caller, version: known.version, ends_at: known.ends_at })
    }

    async fn look_up_for(&self, key: &str, address: IpAddr) -> Result<Known> {
        let stranger = Principal::Address(address);
        if let Some(retry_after) = self.limiter.refuses(&self.ctx, Class::Login, stranger) {
            return Err(
                Error::new(Code::RateLimited, "Too many API keys that are not good came from this address.").retry_after(retry_after)
            );
        }
        let looked_up = self.look_up(key).await;
        if looked_up.as_ref().is_err_and(|error| error.code == Code::InvalidToken) {
            self.limiter.check(&self.ctx, Class::Login, stranger).await;
        }
        looked_up
    }

    /// Whether what was proved has been revoked since; looks in memory alone.
    pub fn is_revoked(&self, proof: &Proof) -> bool {
        self.revocations.refuses(proof.caller.credential, proof.caller.user_id, proof.version)
    }

    /// Whether new tokens are to be had for what was proved, although that is revoked: a session outlives the tokens that its user had
    /// before a change of password or role.
    pub async fn goes_on(&self, proof: &Proof) -> Result<bool> {
        let caller = proof.caller;
        let Credential::Session(id) = caller.credential else { return Ok(false) };
        let user = store::users::by_id(&self.ctx.pg, caller.user_id).await?;
        if user.is_none_or(|user| user.disabled) {
            return Ok(false);
        }
        let all = PageRequest { limit: MAX_LIMIT, before: None };
        Ok(store::sessions::page(self.ctx.by_values(), caller.user_id, &all, self.ctx.clock.now())
            .await?
            .iter()
            .any(|session| session.id == id))
    }

    /// As [`authenticate`](Self::authenticate), without I/O; `None` when that is an API key that must be looked up.
    pub fn authenticate_at_once(&self, credential: &str) -> Result<Option<Caller>> {
        Ok(self.known_at_once(credential)?.map(|known| known.caller))
    }

    fn known_at_once(&self, credential: &str) -> Result<Option<Known>> {
        if !self.revocations.is_complete() {
            return Err(Error::new(Code::DatabaseUnavailable, "What is revoked is not known yet.").retry_after(Duration::from_secs(1)));
        }
        if credential.len() > access_token::TOKEN_BYTES_MAX || refresh_token::looks_like_one(credential) {
            return Err(invalid_token());
        }
        let fingerprint: [u8; 32] = Sha256::digest(credential).into();
        let now = self.ctx.clock.now();
        let is_key = credential.starts_with(secret_token::API_KEY);
        match self.known.get(&fingerprint) {
            Some(known) if known.good_until > now && !self.refuses(&known) => return Ok(Some(known)),
            Some(known) if !is_key => return Err(if known.good_until > now { revoked() } else { access_token::expired() }),
            // A key that is revoked or may be stale: the row decides.
            Some(_) | None if is_key => return Ok(None),
            Some(_) | None => {}
        }
        let verified = access_token::verify(&self.keys.load(), credential, now)?;
        let known = Known {
            caller: verified.caller,
            version: verified.version,
            good_until: verified.expires_at,
            ends_at: Some(verified.expires_at),
        };
        if self.refuses(&known) {
            return Err(revoked());
        }
        self.known.insert(fingerprint, known);
        Ok(Some(known))
    }

    async fn look_up(&self, key: &str) -> Result<Known> {
        // Also where nothing else is needed of PostgreSQL.
        if self.ctx.pg_breaker.is_open() {
            return Err(pg::away());
        }
        let known = api_keys::look_up(self, key).await?.ok_or_else(invalid_token)?;
        // Heard of between the reading of the row and now.
        if self.refuses(&known) {
            return Err(invalid_token());
        }
        self.known.insert(Sha256::digest(key).into(), known);
        Ok(known)
    }

    fn refuses(&self, known: &Known) -> bool {
        self.revocations.refuses(known.caller.credential, known.caller.user_id, known.version)
    }
}

fn invalid_token() -> Error {
    Error::new(Code::InvalidToken, "The access token or API key is not good.")
}

fn revoked() -> Error {
    Error::new(Code::InvalidToken, "The session of this access token has ended.")
}
