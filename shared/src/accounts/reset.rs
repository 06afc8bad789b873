//! Resetting a forgotten password with a token that came by mail: good once, for 30 minutes.

use super::{
    Accounts,
    audit::{self, Action, Deed, Subject},
    input::{ForgottenPassword, PasswordReset},
    revocations,
    revocations::Revocation,
    rules,
    secret_token::{self, PASSWORD_RESET},
    store,
    types::Origin,
};
use crate::{Code, Context, Error, Result, ids::UserId, mail};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Once;
use subtle::ConstantTimeEq;
use time::Duration;
use uuid::Uuid;
use validator::Validate;

/// How long a token is good.
pub const GOOD_FOR: Duration = Duration::minutes(30);

/// Answers the same, and as fast, whether or not there is such an account: who has the address is looked up by the job that sends
/// the mail, and the token is made there.
pub async fn forgot_password(accounts: &Accounts, forgotten: &ForgottenPassword, origin: &Origin) -> Result<()> {
    forgotten.validate()?;
    if accounts.ctx.settings().smtp_url.is_none() {
        // Once: anybody may ask.
        static TOLD: Once = Once::new();
        TOLD.call_once(|| {
            tracing::warn!("a password reset was asked for, and SMTP_URL is not set; `millrace-api admin reset` makes a token by hand");
        });
        return Ok(());
    }
    mail::ask_password_reset(&accounts.ctx, &forgotten.email, origin.request_id.clone()).await
}

/// A token for the one who is to receive it; `None` when nobody has the address, or they are disabled.
pub async fn issue_reset(ctx: &Context, email: &str, origin: &Origin) -> Result<Option<SecretString>> {
    let user = store::users::by_email(&ctx.pg, &rules::normal_email(email)).await?;
    let Some(user) = user.filter(|user| !user.disabled) else { return Ok(None) };
    let (id, now) = (Uuid::now_v7(), ctx.clock.now());
    let (token, secret_hash) = secret_token::mint(PASSWORD_RESET, id);
    store::resets::insert(&ctx.pg, (id, user.id, &secret_hash), (now, now + GOOD_FOR)).await?;
    let deed = Deed::new(None, Action::PasswordResetIssued, Subject::User(user.id), origin);
    audit::record(&ctx.pg, now, deed).await?;
    Ok(Some(token.into()))
}

/// Sets the password and ends everything the user was signed in with.
pub async fn reset_password(accounts: &Accounts, reset: &PasswordReset, origin: &Origin) -> Result<()> {
    reset.validate()?;
    // The hash is the costly part: whoever has no good token does not get that far.
    let (id, user_id) = find(accounts, reset.token.expose_secret()).await?;
    let hash = accounts.passwords.hash(&reset.new_password).await?;

    let now = accounts.ctx.clock.now();
    let mut tx = accounts.ctx.pg.begin().await?;
    let user = store::users::lock(&mut tx, user_id).await?.filter(|user| !user.disabled).ok_or_else(invalid_token)?;
    rules::not_the_address(&reset.new_password, &user.email, "/new_password")?;
    if !store::resets::consume(&mut tx, id, user_id).await? {
        return Err(invalid_token());
    }
    let version = store::users::set_password(&mut tx, user_id, &hash, now).await?;
    store::sessions::revoke_all(&mut tx, (user_id, None), now).await?;
    let revocation = Revocation::user(user_id, version, now);
    revocations::record(&mut tx, &[revocation]).await?;
    audit::record(&mut *tx, now, Deed::new(user_id, Action::PasswordReset, Subject::User(user_id), origin)).await?;
    tx.commit().await?;
    accounts.announce(&[revocation]).await;
    Ok(())
}

async fn find(accounts: &Accounts, token: &str) -> Result<(Uuid, UserId)> {
    let presented = secret_token::parse(PASSWORD_RESET, token).ok_or_else(invalid_token)?;
    let open = store::resets::open(&accounts.ctx.pg, presented.id, accounts.ctx.clock.now()).await?;
    let (secret_hash, user_id) = open.ok_or_else(invalid_token)?;
    if bool::from(secret_hash.as_slice().ct_eq(&presented.secret_hash)) { Ok((presented.id, user_id)) } else { Err(invalid_token()) }
}

fn invalid_token() -> Error {
    Error::new(Code::InvalidToken, "The token is not good, has expired, or was used already.")
}
