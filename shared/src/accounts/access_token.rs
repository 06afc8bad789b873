//! Access tokens: short-lived JWTs that say who calls by which session, and what they may.

use super::{key_ring::KeyRing, types::User};
use crate::{
    Caller, Code, Error, Result, Role, Scope,
    caller::{Credential, Scopes},
    config::Settings,
    ids::{SessionId, UserId},
};
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;
use time::OffsetDateTime;

/// Longer text is refused unread; ours are well below 1 KiB.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

const TYPE: &str = "access";

#[derive(Debug, Serialize, Deserialize)]
struct Claims<'a> {
    sub: UserId,
    sid: SessionId,
    /// The user's token version: below the least that is still good, the token is not.
    ver: i32,
    iat: i64,
    exp: i64,
    iss: Cow<'a, str>,
    aud: Cow<'a, str>,
    typ: Cow<'a, str>,
    role: Role,
    #[serde(deserialize_with = "known_scopes")]
    scopes: Vec<Scope>,
}

/// What a verified token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    pub caller: Caller,
    pub version: i32,
    pub expires_at: OffsetDateTime,
}

/// Signs a token for `user` that ends at `expires_at`.
pub fn issue(
    keys: &KeyRing,
    settings: &Settings,
    (user, version): (&User, i32),
    session_id: SessionId,
    (now, expires_at): (OffsetDateTime, OffsetDateTime),
) -> Result<String> {
    keys.sign(&Claims {
        sub: user.id,
        sid: session_id,
        ver: version,
        iat: now.unix_timestamp(),
        exp: expires_at.unix_timestamp(),
        iss: Cow::Borrowed(&settings.jwt_issuer),
        aud: Cow::Borrowed(&settings.jwt_audience),
        typ: Cow::Borrowed(TYPE),
        role: user.role,
        scopes: user.role.scopes().iter().collect(),
    })
}

/// Everything but revocation, which the caller looks up for cached tokens too.
pub fn verify(keys: &KeyRing, token: &str, now: OffsetDateTime) -> Result<Verified> {
    let invalid = || Error::new(Code::InvalidToken, "The access token or API key is not one of ours.");
    if token.len() > TOKEN_BYTES_MAX {
        return Err(invalid());
    }
    let claims: Claims<'static> = keys.verify(token)?;
    if claims.typ != TYPE {
        return Err(invalid());
    }
    let expires_at = OffsetDateTime::from_unix_timestamp(claims.exp).map_err(|_| invalid())?;
    if expires_at <= now {
        return Err(expired());
    }
    let scopes = claims.scopes.into_iter().collect::<Scopes>();
    let caller = Caller::new(claims.sub, claims.role, scopes, Credential::Session(claims.sid));
    Ok(Verified { caller, version: claims.ver, expires_at })
}

pub(super) fn expired() -> Error {
    Error::new(Code::TokenExpired, "The access token has expired; refresh it.")
}

/// A newer process may know scopes that this one does not: its tokens are good here for all others.
fn known_scopes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Scope>, D::Error> {
    let names = Vec::<Cow<'de, str>>::deserialize(deserializer)?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}
