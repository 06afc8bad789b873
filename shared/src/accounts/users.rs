//! Users: oneself, and for administrators everybody.

use super::{
    Accounts,
    audit::{self, Action, Deed, Subject},
    input::UserChange,
    removal, revocations,
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
use std::time::Duration;

pub async fn get_me(accounts: &Accounts, caller: &Caller) -> Result<User> {
    let row = store::users::by_id(&accounts.ctx.pg, caller.user_id).await?;
    row.map(UserRow::into_user).ok_or_else(left)
}

pub async fn get_user(accounts: &Accounts, caller: &Caller, id: UserId) -> Result<User> {
    caller.require(Scope::Admin)?;
    let row = store::users::by_id(&accounts.ctx.pg, id).await?;
    row.map(UserRow::into_user).ok_or_else(|| Error::not_found("user"))
}

/// Newest first; administrators only.
pub async fn list_users(accounts: &Accounts, caller: &Caller, page: &PageRequest) -> Result<Page<User>> {
    caller.require(Scope::Admin)?;
    let rows = store::users::page(accounts.ctx.by_values(), page).await?;
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
    let (before, admins) = lock_with_admins(&mut tx, id).await?;
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

/// Deletes the caller's account with all it has. Entries of the audit log stay.
///
/// When this returns nobody finds the account, and nothing is done in its name any more. Of much that it had, some is removed later.
pub async fn delete_me(accounts: &Accounts, caller: &Caller, origin: &Origin) -> Result<()> {
    caller.require_session()?;
    let (id, now) = (caller.user_id, accounts.ctx.clock.now());
    let mut tx = accounts.ctx.pg.begin().await?;
    let locked = lock_with_admins(&mut tx, id).await;
    let (_, admins) = locked.map_err(|error| if error.code == Code::NotFound { left() } else { error })?;
    keep_an_admin(&admins, id)?;
    store::removal::delete(&mut tx, id, now).await?;
    let revocation = Revocation::deleted_user(id, now);
    revocations::record(&mut tx, &[revocation]).await?;
    audit::record(&mut *tx, now, Deed::new(id, Action::AccountDeleted, Subject::User(id), origin)).await?;
    tx.commit().await?;
    accounts.announce(&[revocation]).await;
    removal::begin(&accounts.ctx, id).await;
    Ok(())
}

/// What somebody is told who was let in, and has been deleted since.
fn left() -> Error {
    Error::new(Code::InvalidToken, "This account is gone.")
}

/// A user, locked, and with an administrator who can sign in all those: locked too, and before, in the order of their ids.
async fn lock_with_admins(tx: &mut PgConnection, id: UserId) -> Result<(UserRow, Vec<UserId>)> {
    let admins = store::users::lock_admins_with(tx, id).await?;
    let user = store::users::lock(tx, id).await?.ok_or_else(|| Error::not_found("user"))?;
    if user.role == Role::Admin && !user.disabled && !admins.contains(&id) {
        // Made one between the two statements. Who locked the others only now might wait for one who waits for this user.
        let busy = Error::new(Code::Overloaded, "Another request was in the way; the same one passes when repeated.");
        return Err(busy.retry_after(Duration::from_secs(1)));
    }
    Ok((user, admins))
}

/// `admins` are locked, so that two who leave at once do not each count the other.
fn keep_an_admin(admins: &[UserId], leaving: UserId) -> Result<()> {
    if admins == [leaving] {
        return Err(Error::new(Code::LastAdmin, "This is the last administrator who can sign in: make another one first."));
    }
    Ok(())
}
