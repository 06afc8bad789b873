//! Signing in with address and password.

use super::{
    Accounts,
    audit::{self, Action, Deed, Subject},
    hashing::Verdict,
    input::Credentials,
    rules, sessions,
    store::{self, users::UserRow},
    throttle,
    types::{Origin, Session},
};
use crate::{Code, Error, Result, telemetry::metrics::LOGINS};
use validator::Validate;

/// Opens a session. An unknown address costs the same time as a wrong password, and is answered the same.
pub async fn login(accounts: &Accounts, credentials: &Credentials, origin: &Origin) -> Result<Session> {
    credentials.validate()?;
    let email = rules::normal_email(&credentials.email);
    throttle::check_email(accounts, &email).await?;
    let found = store::users::by_email(&accounts.ctx.pg, &email).await?;
    let stored = found.as_ref().map(|user| user.password_hash.as_str());
    let verdict = accounts.passwords.verify(&credentials.password, stored).await?;
    match (found, verdict) {
        (Some(user), Verdict::Right | Verdict::Outdated) if user.disabled => {
            refuse(accounts, Some(&user), "disabled", origin).await?;
            Err(Error::new(Code::Forbidden, "This account is disabled."))
        }
        (Some(user), Verdict::Right) => open(accounts, user, None, origin).await,
        (Some(user), Verdict::Outdated) => {
            let hash = accounts.passwords.hash(&credentials.password).await?;
            open(accounts, user, Some(&hash), origin).await
        }
        (found, _) => {
            refuse(accounts, found.as_ref(), "wrong_password", origin).await?;
            Err(invalid_credentials())
        }
    }
}

async fn open(accounts: &Accounts, verified: UserRow, new_hash: Option<&str>, origin: &Origin) -> Result<Session> {
    let mut tx = accounts.ctx.pg.begin().await?;
    // While the password was verified it may have been changed, or the user disabled: that came first, then.
    let user = store::users::lock(&mut tx, verified.id).await?;
    let user = user.filter(|user| user.token_version == verified.token_version).ok_or_else(invalid_credentials)?;
    if let Some(hash) = new_hash {
        store::users::rehash(&mut tx, user.id, hash).await?;
    }
    let id = user.id;
    let opened = sessions::open(accounts, &mut tx, user, origin).await?;
    let deed = Deed::new(id, Action::Login, Subject::User(id), origin).with(serde_json::json!({ "session_id": opened.id }));
    audit::record(&mut *tx, accounts.ctx.clock.now(), deed).await?;
    tx.commit().await?;
    accounts.announce(&opened.revocations).await;
    metrics::counter!(LOGINS, "outcome" => "ok").increment(1);
    Ok(opened.session)
}

async fn refuse(accounts: &Accounts, user: Option<&UserRow>, reason: &'static str, origin: &Origin) -> Result<()> {
    metrics::counter!(LOGINS, "outcome" => reason).increment(1);
    let subject = user.map_or(Subject::Nobody, |user| Subject::User(user.id));
    let reason = if user.is_some() { reason } else { "unknown_user" };
    let deed = Deed::new(None, Action::LoginFailed, subject, origin).with(serde_json::json!({ "reason": reason }));
    audit::record(&accounts.ctx.pg, accounts.ctx.clock.now(), deed).await
}

fn invalid_credentials() -> Error {
    Error::new(Code::InvalidCredentials, "The e-mail address or the password is wrong.")
}
