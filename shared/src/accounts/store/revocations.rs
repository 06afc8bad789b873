//! Statements on `revocations`.

use crate::{
    Error, Result,
    accounts::revocations::{Revocation, Revoked},
    clock::{from_unix_ms, unix_ms},
    ids::{ApiKeyId, SessionId, UserId},
};
use sqlx::{PgConnection, PgExecutor};
use std::time::Duration;

pub(in crate::accounts) async fn insert(tx: &mut PgConnection, revocations: &[Revocation]) -> Result<()> {
    let (mut kinds, mut subjects, mut min_versions, mut expiries) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for revocation in revocations {
        let (kind, subject, min_version) = match revocation.revoked {
            Revoked::Session(id) => ("session", id.0, None),
            Revoked::ApiKey(id) => ("api_key", id.0, None),
            Revoked::User { id, min_version } => ("user", id.0, Some(min_version)),
        };
        kinds.push(kind.to_owned());
        subjects.push(subject);
        min_versions.push(min_version);
        expiries.push(from_unix_ms(revocation.expires_at_ms).ok_or_else(|| Error::internal("a revocation ends beyond year 9999"))?);
    }
    sqlx::query!(
        "INSERT INTO revocations (kind, subject, min_version, expires_at)
         SELECT * FROM unnest($1::text[], $2::uuid[], $3::int[], $4::timestamptz[])",
        &kinds,
        &subjects,
        &min_versions as &[Option<i32>],
        &expiries,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Those of the last `look_back` by the database's clock, or all that have not expired.
pub(in crate::accounts) async fn read(db: impl PgExecutor<'_>, look_back: Option<Duration>) -> Result<Vec<Revocation>> {
    let rows = sqlx::query!(
        "SELECT kind, subject, min_version, expires_at
         FROM revocations
         WHERE ($1::float8 IS NULL AND expires_at > now())
            OR created_at > now() - make_interval(secs => $1)",
        look_back.map(|look_back| look_back.as_secs_f64()),
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let revoked = match (row.kind.as_str(), row.min_version) {
                ("session", _) => Revoked::Session(SessionId(row.subject)),
                ("api_key", _) => Revoked::ApiKey(ApiKeyId(row.subject)),
                ("user", Some(min_version)) => Revoked::User { id: UserId(row.subject), min_version },
                _ => return Err(Error::internal("a revocation's row is of no known kind")),
            };
            Ok(Revocation { revoked, expires_at_ms: unix_ms(row.expires_at) })
        })
        .collect()
}
