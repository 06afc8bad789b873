//! How often a password may be tried per account, whoever tries; per address it is limited before the body is read.

use super::Accounts;
use crate::{
    Result,
    ids::UserId,
    limits::{Class, Principal, Verdict},
};
use sha2::{Digest, Sha256};

/// `email` in the form of `rules::normal_email`. Accounts that do not exist are limited like those that do.
pub(super) async fn check_email(accounts: &Accounts, email: &str) -> Result<()> {
    let hash = Sha256::digest(email);
    let first = hash.first_chunk::<16>().expect("SHA-256 has 32 bytes");
    check(accounts, Principal::Account(u128::from_be_bytes(*first))).await
}

/// For a signed-in user who proves the password once more.
pub(super) async fn check_user(accounts: &Accounts, id: UserId) -> Result<()> {
    check(accounts, Principal::User(id)).await
}

async fn check(accounts: &Accounts, principal: Principal) -> Result<()> {
    let verdict = accounts.limiter.check(&accounts.ctx, Class::Login, principal).await;
    verdict.as_ref().and_then(Verdict::refusal).map_or(Ok(()), Err)
}
