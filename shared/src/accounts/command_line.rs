//! What an operator does at the machine, where access to the database and the keys is proof enough: the first
//! administrator, and tokens for scripts.

use super::{
    Accounts, access_token,
    audit::{self, Action, Deed, Subject},
    input::{NewUser, Secret},
    register, revocations, rules,
    store::{self, sessions::SessionRow, users::UserRow},
    types::{Origin, User},
};
use crate::{Code, Error, Result, Role, ids::SessionId};
use secrecy::SecretString;
use time::Duration;

/// How [`create_admin`] ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminCreated {
    Created(User),
    /// There was an account with this address; it is as it was, role and password included.
    Existed(User),
}

/// Makes an account with the role `admin`, unless the address has one.
pub async fn create_admin(accounts: &Accounts, email: &str, password: &SecretString) -> Result<AdminCreated> {
    let new = NewUser { email: email.to_owned(), password: Secret(password.clone()), display_name: None };
    let row = match register::checked(accounts, &new, Role::Admin).await {
        Ok(row) => row,
        Err(error) if error.code == Code::EmailTaken => return Ok(AdminCreated::Existed(by_email(accounts, email).await?.into_user())),
        Err(error) => return Err(error),
    };
    let mut tx = accounts.ctx.pg.begin().await?;
    if !store::users::insert(&mut tx, &row).await? {
        return Ok(AdminCreated::Existed(by_email(accounts, email).await?.into_user()));
    }
    let origin = Origin::default();
    let deed = Deed::new(None, Action::AdminCreated, Subject::User(row.id), &origin);
    audit::record(&mut *tx, row.created_at, deed).await?;
    tx.commit().await?;
    Ok(AdminCreated::Created(row.into_user()))
}

/// An access token for the user with this address: a session of its own without a refresh token, listed with theirs.
pub async fn issue_token(accounts: &Accounts, email: &str, ttl: Duration) -> Result<String> {
    if ttl < Duration::seconds(1) || ttl > revocations::ACCESS_TTL_MAX {
        return Err(Error::invalid("/ttl", "range", "must be 1 second to 1 day; for longer, make an API key"));
    }
    let user = by_email(accounts, email).await?;
    if user.disabled {
        return Err(Error::new(Code::Forbidden, "This account is disabled."));
    }
    let (now, version) = (accounts.ctx.clock.now(), user.token_version);
    let session = SessionRow {
        id: SessionId::new(),
        user_id: user.id,
        nonce: rand::random::<[u8; 32]>().to_vec(),
        user_agent: Some("millrace-api token issue".to_owned()),
        address: None,
        created_at: now,
        last_used_at: now,
        access_expires_at: now + ttl,
        expires_at: now + ttl,
    };
    let token = access_token::issue(
        &accounts.keys.load(),
        &accounts.ctx.settings(),
        (&user.clone().into_user(), version),
        session.id,
        (now, now + ttl),
    )?;
    let mut tx = accounts.ctx.pg.begin().await?;
    store::sessions::insert(&mut tx, &session).await?;
    let origin = Origin::default();
    let deed = Deed::new(None, Action::TokenIssued, Subject::User(user.id), &origin);
    audit::record(&mut *tx, now, deed.with(serde_json::json!({ "session_id": session.id }))).await?;
    tx.commit().await?;
    Ok(token)
}

async fn by_email(accounts: &Accounts, email: &str) -> Result<UserRow> {
    let found = store::users::by_email(&accounts.ctx.pg, &rules::normal_email(email)).await?;
    found.ok_or_else(|| Error::not_found("user"))
}
