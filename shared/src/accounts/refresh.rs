//! A refresh token for the next one and a fresh access token; a token used twice ends its session.

use super::{
    Accounts,
    audit::{self, Action, Deed, Subject},
    refresh_token, revocations,
    revocations::Revocation,
    sessions::{self, invalid_refresh_token},
    store::{self, sessions::Rotation},
    types::{Origin, Session, User},
};
use crate::{Result, ids::UserId};
use secrecy::{ExposeSecret, SecretString};
use time::Duration;

/// So long after a refresh, the token that was used answers with the same successor again: the answer may have been lost.
pub const GRACE: Duration = Duration::seconds(10);

pub async fn refresh(accounts: &Accounts, refresh_token: &SecretString, origin: &Origin) -> Result<Session> {
    let presented = refresh_token::parse(refresh_token.expose_secret()).ok_or_else(invalid_refresh_token)?;
    let row = store::sessions::for_refresh(&accounts.ctx.pg, presented.session_id).await?.ok_or_else(invalid_refresh_token)?;
    // Before anything else: a forged token must not end the session it names.
    if !accounts.keys.load().refresh.verify(&presented, &row.nonce) {
        return Err(invalid_refresh_token());
    }
    let now = accounts.ctx.clock.now();
    let user_agent = origin.kept_user_agent();
    let rotation = Rotation {
        id: presented.session_id,
        generation: presented.generation,
        now,
        grace_since: now - GRACE,
        access_expires_at: now + sessions::access_ttl(accounts),
        expires_at: now + sessions::refresh_ttl(accounts),
        user_agent: user_agent.as_deref(),
        address: origin.address,
    };
    let Some(rotated) = store::sessions::rotate(&accounts.ctx.pg, &rotation).await? else {
        revoke_reused(accounts, row.user_id, &rotation, origin).await?;
        return Err(invalid_refresh_token());
    };
    let refresh_token = accounts.keys.load().refresh.mint(rotation.id, rotated.generation, &row.nonce);
    let user = User {
        id: rotated.user_id,
        email: rotated.email,
        display_name: rotated.display_name,
        role: rotated.role,
        disabled: false,
        created_at: rotated.created_at,
    };
    sessions::tokens(accounts, (user, rotated.token_version), rotation.id, refresh_token, now)
}

/// Two hold the family's tokens, and one of them is a thief: both are out.
async fn revoke_reused(accounts: &Accounts, user_id: UserId, rotation: &Rotation<'_>, origin: &Origin) -> Result<()> {
    let mut tx = accounts.ctx.pg.begin().await?;
    let Some(ended) = store::sessions::revoke_reused(&mut tx, rotation).await? else { return Ok(()) };
    let revocation = Revocation::session(ended.id, ended.access_expires_at, rotation.now);
    revocations::record(&mut tx, &[revocation]).await?;
    let deed = Deed::new(None, Action::RefreshReused, Subject::Session(ended.id), origin);
    let deed = deed.with(serde_json::json!({ "user_id": user_id, "generation": rotation.generation }));
    audit::record(&mut *tx, rotation.now, deed).await?;
    tx.commit().await?;
    accounts.announce(&[revocation]).await;
    tracing::warn!(session_id = %ended.id, %user_id, "a refresh token was used again; its session is revoked");
    Ok(())
}
