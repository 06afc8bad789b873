//! Sessions: opening one with its tokens, and for their user to list and to end.

use super::{
    Accounts, access_token,
    audit::{self, Action, Deed, Subject},
    refresh_token, revocations,
    revocations::Revocation,
    store::{self, sessions::SessionRow, users::UserRow},
    types::{ListedSession, Origin, Session, User},
};
use crate::{
    Caller, Code, Context, Error, Result,
    ids::SessionId,
    page::{Page, PageRequest},
};
use secrecy::{ExposeSecret, SecretString};
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

/// A session in a transaction that is not yet committed: hand the revocations to `announce` after that.
pub(super) struct Opened {
    pub session: Session,
    pub id: SessionId,
    pub revocations: Vec<Revocation>,
}

/// Opens a session for `user`, whose row the transaction holds, and ends the oldest of theirs that are too many.
pub(super) async fn open(accounts: &Accounts, tx: &mut PgConnection, user: UserRow, origin: &Origin) -> Result<Opened> {
    let settings = accounts.ctx.settings().clone();
    let now = accounts.ctx.clock.now();
    let row = SessionRow {
        id: SessionId::new(),
        user_id: user.id,
        nonce: rand::random::<[u8; 32]>().to_vec(),
        user_agent: origin.kept_user_agent(),
        address: origin.address,
        created_at: now,
        last_used_at: now,
        access_expires_at: now + access_ttl(accounts),
        expires_at: now + refresh_ttl(accounts),
    };
    store::sessions::insert(tx, &row).await?;
    let ended = store::sessions::revoke_oldest(tx, (user.id, i64::from(settings.sessions_max)), now).await?;
    let revocations: Vec<_> = ended.iter().map(|ended| Revocation::session(ended.id, ended.access_expires_at, now)).collect();
    revocations::record(tx, &revocations).await?;
    let version = user.token_version;
    let refresh_token = accounts.keys.load().refresh.mint(row.id, 1, &row.nonce);
    let session = tokens(accounts, (user.into_user(), version), row.id, refresh_token, now)?;
    Ok(Opened { session, id: row.id, revocations })
}

/// The answer that carries a session's tokens.
pub(super) fn tokens(
    accounts: &Accounts,
    (user, version): (User, i32),
    session_id: SessionId,
    refresh_token: String,
    now: OffsetDateTime,
) -> Result<Session> {
    let settings = accounts.ctx.settings();
    let expires_at = now + access_ttl(accounts);
    let access_token = access_token::issue(&accounts.keys.load(), &settings, (&user, version), session_id, (now, expires_at))?;
    Ok(Session { access_token, token_type: "Bearer", expires_in: settings.jwt_access_ttl_s, refresh_token, user })
}

pub(super) fn access_ttl(accounts: &Accounts) -> Duration {
    seconds(accounts.ctx.settings().jwt_access_ttl_s)
}

pub(super) fn refresh_ttl(accounts: &Accounts) -> Duration {
    seconds(accounts.ctx.settings().jwt_refresh_ttl_s)
}

fn seconds(seconds: u64) -> Duration {
    Duration::seconds(i64::try_from(seconds).expect("lifetimes are at most a year"))
}

/// The caller's sessions that have not ended, newest first.
pub async fn list_sessions(accounts: &Accounts, caller: &Caller, page: &PageRequest) -> Result<Page<ListedSession>> {
    let current = caller.require_session()?;
    let rows = store::sessions::page(accounts.ctx.by_values(), caller.user_id, page, accounts.ctx.clock.now()).await?;
    Ok(Page::from_rows(rows, page, |row| row.id.0).map(|row| ListedSession {
        id: row.id,
        current: row.id == current,
        user_agent: row.user_agent,
        address: row.address,
        created_at: row.created_at,
        last_used_at: row.last_used_at,
        expires_at: row.expires_at,
    }))
}

/// Ends one of the caller's sessions, the current one too.
pub async fn revoke_session(accounts: &Accounts, caller: &Caller, id: SessionId, origin: &Origin) -> Result<()> {
    caller.require_session()?;
    end(accounts, caller, id, Action::SessionRevoked, origin).await?.ok_or_else(|| Error::not_found("session"))
}

/// Ends the session that `refresh_token` belongs to, which must be one of the caller's.
pub async fn logout(accounts: &Accounts, caller: &Caller, refresh_token: &SecretString, origin: &Origin) -> Result<()> {
    caller.require_session()?;
    let presented = refresh_token::parse(refresh_token.expose_secret()).ok_or_else(invalid_refresh_token)?;
    let row = store::sessions::for_refresh(&accounts.ctx.pg, presented.session_id).await?;
    row.filter(|row| row.user_id == caller.user_id && accounts.keys.load().refresh.verify(&presented, &row.nonce))
        .ok_or_else(invalid_refresh_token)?;
    end(accounts, caller, presented.session_id, Action::Logout, origin).await?.ok_or_else(invalid_refresh_token)
}

async fn end(accounts: &Accounts, caller: &Caller, id: SessionId, action: Action, origin: &Origin) -> Result<Option<()>> {
    let now = accounts.ctx.clock.now();
    let mut tx = accounts.ctx.pg.begin().await?;
    let Some(ended) = store::sessions::revoke(&mut tx, (caller.user_id, id), now).await? else {
        return Ok(None);
    };
    let revocation = Revocation::session(ended.id, ended.access_expires_at, now);
    revocations::record(&mut tx, &[revocation]).await?;
    audit::record(&mut *tx, now, Deed::new(caller.user_id, action, Subject::Session(id), origin)).await?;
    tx.commit().await?;
    accounts.announce(&[revocation]).await;
    Ok(Some(()))
}

pub(super) fn invalid_refresh_token() -> Error {
    Error::new(Code::InvalidRefreshToken, "The refresh token is not good, or its session has ended; sign in again.")
}

/// How many sessions there are, roughly where they are many.
pub async fn count_roughly(ctx: &Context) -> Result<i64> {
    store::sessions::count_roughly(&ctx.pg, ctx.clock.now()).await
}
