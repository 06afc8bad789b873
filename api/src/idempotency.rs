//! How a creation that carries an Idempotency-Key is answered: the work and its answer commit together, and a repeated
//! request gets the stored answer with `Idempotency-Replayed: true`.

use crate::error::{ApiError, ApiResult};
use actix_web::{
    FromRequest, HttpRequest, HttpResponse,
    dev::Payload,
    http::{
        StatusCode,
        header::{self, HeaderName},
    },
};
use shared::{
    Code, Context, Error, Result,
    idempotency::{Attempt, IdempotencyKey, StoredAnswer},
};
use sqlx::{PgConnection, Postgres, Transaction};
use std::{
    future::{Ready, ready},
    ops::AsyncFnOnce,
};

/// The request's Idempotency-Key, if it has one.
#[derive(Debug, Clone)]
pub struct OptionalKey(pub Option<IdempotencyKey>);

impl FromRequest for OptionalKey {
    type Error = ApiError;
    type Future = Ready<std::result::Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let mut values = request.headers().get_all(HeaderName::from_static("idempotency-key"));
        let key = match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => IdempotencyKey::parse(value.to_str().unwrap_or_default()).map(Some),
            (Some(_), Some(_)) => Err(Error::new(Code::InvalidHeader, "Idempotency-Key was sent twice.")),
        };
        ready(key.map(Self).map_err(ApiError::from))
    }
}

/// What a creation came to: done now, or known from before.
#[derive(Debug)]
pub enum Creation<T> {
    /// `T` is what the work made, for what must follow the commit.
    Fresh(StoredAnswer, T),
    Replayed(StoredAnswer),
}

/// Does `work` in a transaction: once, where the request carries a key.
pub async fn create<T>(
    ctx: &Context,
    attempt: Option<&Attempt>,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<(StoredAnswer, T)>,
) -> Result<Creation<T>> {
    let Some(attempt) = attempt else {
        let mut tx = ctx.pg.begin().await?;
        let (answer, made) = work(&mut tx).await?;
        tx.commit().await?;
        return Ok(Creation::Fresh(answer, made));
    };
    create_once(ctx, attempt, work).await
}

/// Does `work` in a transaction together with its stored answer, unless it was done before.
///
/// `work` must not ask its worker thread's pool for a second connection: as many such requests as the pool has
/// connections would wait for each other.
pub async fn create_once<T>(
    ctx: &Context,
    attempt: &Attempt,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<(StoredAnswer, T)>,
) -> Result<Creation<T>> {
    let mut tx: Transaction<'_, Postgres> = ctx.pg.begin().await?;
    match create_in(&mut tx, attempt, work).await {
        Ok(created @ Creation::Fresh(..)) => {
            tx.commit().await?;
            Ok(created)
        }
        nothing_new @ (Ok(Creation::Replayed(_)) | Err(_)) => {
            // The key is free before the caller hears of it and tries again: a transaction that is dropped ends some time later.
            if let Err(error) = tx.rollback().await {
                tracing::debug!(%error, "the transaction of an Idempotency-Key ends with its connection");
            }
            nothing_new
        }
    }
}

async fn create_in<T>(
    tx: &mut PgConnection,
    attempt: &Attempt,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<(StoredAnswer, T)>,
) -> Result<Creation<T>> {
    if let Some(answer) = attempt.begin(tx).await? {
        return Ok(Creation::Replayed(answer));
    }
    let (answer, made) = work(tx).await?;
    attempt.record(tx, &answer).await?;
    Ok(Creation::Fresh(answer, made))
}

/// The HTTP answer for a stored one.
pub fn answer(stored: &StoredAnswer, is_replay: bool) -> ApiResult {
    let status = StatusCode::from_u16(stored.status).map_err(Error::internal)?;
    let mut response = HttpResponse::build(status);
    if let Some(location) = &stored.location {
        response.insert_header((header::LOCATION, location.as_str()));
    }
    if is_replay {
        response.insert_header(("Idempotency-Replayed", "true"));
    }
    Ok(response.content_type("application/json").body(stored.body.clone()))
}
