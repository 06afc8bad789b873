//! Users: oneself, and for administrators everybody.

use super::{
    Accounts,
    audit::{self, Action, Deed, Subject},
    input::UserChange,
    revocations,
    revocations::Revocation,
    store::{self, users::UserRow},
    types::{Origin, User},
};
use crate::{
    Caller, Code, Error, Result, Role, Scope,
    ids::UserId,
    page::{Page, PageRequest},
};
use sqlx::PgConnection;

pub async fn get_me(accounts: &Accounts, caller: &Caller) -> Result<User> {
    find(accounts, caller.user_id).await
}

pub async fn get_user(accounts: &Accounts, caller: &Caller, id: UserId) -> Result<User> {
    caller.require(Scope::Admin)?;
    find(accounts, id).await
}

async fn find(accounts: &Accounts, id: UserId) -> Result<User> {
    let row = store::users::by_id(&accounts.ctx.pg, id).await?;
    row.map(UserRow::into_user).ok_or_else(|| Error::not_found("user"))
}

/// Newest first; administrators only.
pub async fn list_users(accounts: &Accounts, caller: &Caller, page: &PageRequest) -> Result<Page<User>> {
    caller.require(Scope::Admin)?;
    let rows = store::users::page(&accounts.ctx.pg, page).await?;
    Ok(Page::from_rows(rows, page, |row| row.id.0).map(UserRow::into_user))
}

/// Changes role or state. `may_change` sees the user as it stands, locked, and refuses when that is not what was expected.
pub async fn change_user(
    accounts: &Accounts,
    caller: &Caller,
    (id, change): (UserId, UserChange),
    may_change: impl FnOnce(&User) -> Result<()>,
    origin: &Origin,
) -> Result<User> {
    caller.require(Scope::Admin)?;
    let now = accounts.ctx.clock.now();
    let mut tx = accounts.ctx.pg.begin().await?;
    let admins = store::users::lock_admins(&mut tx).await?;
    let before = store::users::lock(&mut tx, id).await?.ok_or_else(|| Error::not_found("user"))?;
    let (role, disabled) = (change.role.unwrap_or(before.role), change.disabled.unwrap_or(before.disabled));
    let unchanged = (role, disabled) == (before.role, before.disabled);
    let before = before.into_user();
    may_change(&before)?;
    if unchanged {
        return Ok(before);
    }
    if role != Role::Admin || disabled {
        keep_an_admin(&admins, id)?;
    }
    let after = store::users::change(&mut tx, id, (role, disabled), now).await?;
    if disabled {
        store::sessions::revoke_all(&mut tx, (id, None), now).await?;
    }
    let revocation = Revocation::user(id, after.token_version, now);
    revocations::record(&mut tx, &[revocation]).await?;
    let detail = serde_json::json!({
        "before": { "role": before.role, "disabled": before.disabled },
        "after": { "role": role, "disabled": disabled },
    });
    audit::record(&mut *tx, now, Deed::new(caller.user_id, Action::UserChanged, Subject::User(id), origin).with(detail)).await?;
    tx.commit().await?;
    accounts.announce(&[revocation]).await;
    Ok(after.into_user())
}

/// Deletes the caller's account with its sessions and keys. Entries of the audit log stay.
pub async fn delete_me(accounts: &Accounts, caller: &Caller, origin: &Origin) -> Result<()> {
    caller.require_session()?;
    let (id, now) = (caller.user_id, accounts.ctx.clock.now());
    let mut tx = accounts.ctx.pg.begin().await?;
    delete_unless_last_admin(&mut tx, id).await?;
    let revocation = Revocation::deleted_user(id, now);
    revocations::record(&mut tx, &[revocation]).await?;
    audit::record(&mut *tx, now, Deed::new(id, Action::AccountDeleted, Subject::User(id), origin)).await?;
    tx.commit().await?;
    accounts.announce(&[revocation]).await;
    Ok(())
}

async fn delete_unless_last_admin(tx: &mut PgConnection, id: UserId) -> Result<()> {
    let admins = store::users::lock_admins(tx).await?;
    store::users::lock(tx, id).await?.ok_or_else(|| Error::not_found("user"))?;
    keep_an_admin(&admins, id)?;
    store::users::delete(tx, id).await
}

/// `admins` are locked, so that two who leave at once do not each count the other.
fn keep_an_admin(admins: &[UserId], leaving: UserId) -> Result<()> {
    if admins == [leaving] {
        return Err(Error::new(Code::LastAdmin, "This is the last administrator who can sign in: make another one first."));
    }
    Ok(())
}
