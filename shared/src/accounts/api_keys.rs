//! API keys: making them, listing and revoking one's own, and looking a presented one up.

use super::{
    Accounts,
    audit::{self, Action, Deed, Subject},
    authenticate::Known,
    input::NewApiKey,
    revocations,
    revocations::Revocation,
    secret_token::{self, API_KEY},
    store::{self, api_keys::ApiKeyRow},
    types::{ApiKey, Origin},
};
use crate::{
    Caller, Code, Error, Result,
    caller::{Credential, Scopes},
    ids::ApiKeyId,
    page::{Page, PageRequest},
};
use sqlx::PgConnection;
use subtle::ConstantTimeEq;
use time::{Duration, OffsetDateTime};
use validator::Validate;

/// A key that was looked up is believed so long, revocations apart.
const BELIEVED_FOR: Duration = Duration::seconds(60);

/// Makes a key in the caller's transaction, so that a record of the request commits with it. The answer alone has the key.
pub async fn create_api_key(
    accounts: &Accounts,
    tx: &mut PgConnection,
    caller: &Caller,
    new: &NewApiKey,
    origin: &Origin,
) -> Result<ApiKey> {
    caller.require_session()?;
    let now = accounts.ctx.clock.now();
    let scopes = check(caller, new, now)?;
    let locked = store::users::lock(tx, caller.user_id).await?;
    locked.ok_or_else(|| Error::new(Code::InvalidToken, "This account is gone."))?;
    let keys_max = i64::from(accounts.ctx.settings().api_keys_max);
    if store::api_keys::count(tx, caller.user_id).await? >= keys_max {
        return Err(Error::new(Code::Conflict, format!("There are {keys_max} API keys already: revoke one first.")));
    }
    let id = ApiKeyId::new();
    let (key, secret_hash) = secret_token::mint(API_KEY, id.0);
    let row = ApiKeyRow {
        id,
        name: new.name.clone(),
        prefix: secret_token::visible_part(API_KEY, id.0),
        scopes: scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
        expires_at: new.expires_at,
        last_used_at: None,
        created_at: now,
    };
    store::api_keys::insert(tx, (caller.user_id, &secret_hash), &row).await?;
    let deed = Deed::new(caller.user_id, Action::ApiKeyCreated, Subject::ApiKey(id), origin);
    audit::record(&mut *tx, now, deed.with(serde_json::json!({ "scopes": row.scopes }))).await?;
    Ok(ApiKey { key: Some(key), ..view(row) })
}

fn check(caller: &Caller, new: &NewApiKey, now: OffsetDateTime) -> Result<Scopes> {
    new.validate()?;
    new.scopes.iter().try_for_each(|scope| caller.require(*scope))?;
    if new.expires_at.is_some_and(|expires_at| expires_at <= now) {
        return Err(Error::new(Code::Conflict, "`expires_at` has passed: the key would never be good."));
    }
    Ok(new.scopes.iter().copied().collect())
}

/// The caller's keys that are not revoked, newest first.
pub async fn list_api_keys(accounts: &Accounts, caller: &Caller, page: &PageRequest) -> Result<Page<ApiKey>> {
    caller.require_session()?;
    let rows = store::api_keys::page(accounts.ctx.by_values(), caller.user_id, page).await?;
    Ok(Page::from_rows(rows, page, |row| row.id.0).map(view))
}

pub async fn revoke_api_key(accounts: &Accounts, caller: &Caller, id: ApiKeyId, origin: &Origin) -> Result<()> {
    caller.require_session()?;
    let now = accounts.ctx.clock.now();
    let mut tx = accounts.ctx.pg.begin().await?;
    if !store::api_keys::revoke(&mut tx, (caller.user_id, id), now).await? {
        return Err(Error::not_found("API key"));
    }
    let revocation = Revocation::api_key(id, now);
    revocations::record(&mut tx, &[revocation]).await?;
    audit::record(&mut *tx, now, Deed::new(caller.user_id, Action::ApiKeyRevoked, Subject::ApiKey(id), origin)).await?;
    tx.commit().await?;
    accounts.announce(&[revocation]).await;
    Ok(())
}

/// Reads a presented key's row; `None` when it proves nothing.
pub(super) async fn look_up(accounts: &Accounts, key: &str) -> Result<Option<Known>> {
    let Some(presented) = secret_token::parse(API_KEY, key) else { return Ok(None) };
    let (id, now) = (ApiKeyId(presented.id), accounts.ctx.clock.now());
    let Some(row) = store::api_keys::usable(&accounts.ctx.pg, id).await? else { return Ok(None) };
    let proved = bool::from(row.secret_hash.as_slice().ct_eq(&presented.secret_hash));
    if !proved || row.expires_at.is_some_and(|expires_at| expires_at <= now) {
        return Ok(None);
    }
    // A full queue drops the note: the next look-up makes it.
    let _ = accounts.key_uses.try_send(id);
    let scopes = row.scopes.iter().filter_map(|scope| scope.parse().ok()).collect::<Scopes>();
    let believed_until = now + BELIEVED_FOR;
    Ok(Some(Known {
        caller: Caller::new(row.user_id, row.role, scopes, Credential::ApiKey(id)),
        version: row.token_version,
        good_until: row.expires_at.map_or(believed_until, |expires_at| expires_at.min(believed_until)),
        ends_at: row.expires_at,
    }))
}

fn view(row: ApiKeyRow) -> ApiKey {
    ApiKey {
        id: row.id,
        name: row.name,
        prefix: row.prefix,
        scopes: row.scopes.iter().filter_map(|scope| scope.parse().ok()).collect(),
        expires_at: row.expires_at,
        last_used_at: row.last_used_at,
        created_at: row.created_at,
        key: None,
    }
}
