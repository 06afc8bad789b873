//! Changing one's password.

use super::{
    Accounts,
    audit::{self, Action, Deed, Subject},
    hashing::Verdict,
    input::PasswordChange,
    revocations,
    revocations::Revocation,
    rules, sessions, store, throttle,
    types::{Origin, Session},
};
use crate::{Caller, Code, Error, Result};
use validator::Validate;

/// Sets a new password, ends the caller's other sessions and all access tokens, and gives the current session new tokens.
pub async fn change_password(accounts: &Accounts, caller: &Caller, change: &PasswordChange, origin: &Origin) -> Result<Session> {
    let session_id = caller.require_session()?;
    change.validate()?;
    throttle::check_user(accounts, caller.user_id).await?;
    let user = store::users::by_id(&accounts.ctx.pg, caller.user_id).await?.ok_or_else(signed_out)?;
    if accounts.passwords.verify(&change.current_password, Some(&user.password_hash)).await? == Verdict::Wrong {
        return Err(Error::new(Code::Forbidden, "The current password is another one."));
    }
    rules::not_the_address(&change.new_password, &user.email, "/new_password")?;
    let hash = accounts.passwords.hash(&change.new_password).await?;

    let now = accounts.ctx.clock.now();
    let mut tx = accounts.ctx.pg.begin().await?;
    let locked = store::users::lock(&mut tx, user.id).await?;
    let mut user = locked.filter(|locked| locked.token_version == user.token_version && !locked.disabled).ok_or_else(signed_out)?;
    user.token_version = store::users::set_password(&mut tx, user.id, &hash, now).await?;
    store::sessions::revoke_all(&mut tx, (user.id, Some(session_id)), now).await?;
    let access_expires_at = now + sessions::access_ttl(accounts);
    let advanced = store::sessions::advance(&mut tx, session_id, (now, access_expires_at)).await?;
    let (generation, nonce) = advanced.ok_or_else(signed_out)?;
    let revocation = Revocation::user(user.id, user.token_version, now);
    revocations::record(&mut tx, &[revocation]).await?;
    audit::record(&mut *tx, now, Deed::new(user.id, Action::PasswordChanged, Subject::User(user.id), origin)).await?;
    tx.commit().await?;
    accounts.announce(&[revocation]).await;

    let version = user.token_version;
    let refresh_token = accounts.keys.load().refresh.mint(session_id, generation, &nonce);
    sessions::tokens(accounts, (user.into_user(), version), session_id, refresh_token, now)
}

/// The session ended, or another request changed the account first.
fn signed_out() -> Error {
    Error::new(Code::InvalidToken, "This session has ended; sign in again.")
}
