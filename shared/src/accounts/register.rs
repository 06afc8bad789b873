//! Making an account, by its owner.

use super::{
    Accounts,
    audit::{self, Action, Deed, Subject},
    input::NewUser,
    rules, sessions,
    store::{self, users::UserRow},
    types::{Origin, Session},
};
use crate::{Code, Error, Result, Role, config::Registration, ids::UserId};
use validator::Validate;

/// Makes an account with the role `user` and signs it in.
pub async fn register(accounts: &Accounts, new: &NewUser, origin: &Origin) -> Result<Session> {
    if accounts.ctx.settings().registration == Registration::Closed {
        return Err(Error::new(Code::RegistrationClosed, "Accounts are made by an administrator here."));
    }
    let user = checked(accounts, new, Role::User).await?;
    let mut tx = accounts.ctx.pg.begin().await?;
    if !store::users::insert(&mut tx, &user).await? {
        return Err(email_taken());
    }
    let (id, now) = (user.id, user.created_at);
    let opened = sessions::open(accounts, &mut tx, user, origin).await?;
    audit::record(&mut *tx, now, Deed::new(id, Action::Register, Subject::User(id), origin)).await?;
    tx.commit().await?;
    Ok(opened.session)
}

/// A row for `new`, its rules kept and its password hashed. The hash is the costly part, so what can refuse comes before it.
pub(super) async fn checked(accounts: &Accounts, new: &NewUser, role: Role) -> Result<UserRow> {
    new.validate()?;
    let email = rules::normal_email(&new.email);
    rules::not_the_address(&new.password, &email, "/password")?;
    if store::users::by_email(&accounts.ctx.pg, &email).await?.is_some() {
        return Err(email_taken());
    }
    let password_hash = accounts.passwords.hash(&new.password).await?;
    let now = accounts.ctx.clock.now();
    Ok(UserRow {
        id: UserId::new(),
        email,
        display_name: new.display_name.clone(),
        password_hash,
        role,
        disabled: false,
        token_version: 1,
        created_at: now,
    })
}

fn email_taken() -> Error {
    Error::new(Code::EmailTaken, "There is an account with this e-mail address.")
}
