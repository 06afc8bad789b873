//! Dead letters.

use crate::{
    Result,
    ids::{TrackId, UserId},
    pg::ByValues,
    points::dead::{DeadPoint, DeadRow},
};
use serde_json::value::RawValue;
use sqlx::{PgExecutor, PgPool, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

/// Writes dead letters; those that are there already stay as they are. Those of users who are gone are of nobody's concern.
pub(crate) async fn insert(db: impl PgExecutor<'_>, dead: &[DeadPoint]) -> Result<()> {
    let ids: Vec<Uuid> = dead.iter().map(|dead| dead.id).collect();
    let tracks: Vec<Option<Uuid>> = dead.iter().map(|dead| dead.track_id.map(|id| id.0)).collect();
    let points: Vec<&str> = dead.iter().map(|dead| dead.json.as_str()).collect();
    let codes: Vec<&str> = dead.iter().map(|dead| dead.code).collect();
    let details: Vec<&str> = dead.iter().map(|dead| dead.detail.as_str()).collect();
    let submitters: Vec<Option<Uuid>> = dead.iter().map(|dead| dead.submitted_by().map(|id| id.0)).collect();
    let for_all: Vec<bool> = dead.iter().map(|dead| dead.sender.for_all).collect();
    let received: Vec<OffsetDateTime> = dead.iter().map(DeadPoint::received_at).collect();
    sqlx::query!(
        "INSERT INTO points_dead (id, track_id, point, code, detail, submitted_by, for_all, received_at)
        SELECT fresh.id, fresh.track_id, fresh.point::json, fresh.code, fresh.detail, fresh.submitted_by, fresh.for_all, fresh.received_at
        FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::bool[], $8::timestamptz[])
            AS fresh (id, track_id, point, code, detail, submitted_by, for_all, received_at)
        WHERE fresh.submitted_by IS NULL
          OR EXISTS (SELECT FROM users WHERE users.id = fresh.submitted_by AND users.deleted_at IS NULL)
        ON CONFLICT DO NOTHING",
        &ids,
        tracks as _,
        points as _,
        codes as _,
        details as _,
        submitters as _,
        &for_all,
        &received,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Newest first, of `submitter` alone unless that is `None`.
pub(crate) async fn page(
    db: ByValues<impl PgExecutor<'_>>,
    submitter: Option<UserId>,
    code: Option<&str>,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<DeadRow>> {
    let rows = sqlx::query_as!(
        DeadRow,
        r#"SELECT id, track_id AS "track_id: TrackId", point AS "point: Json<Box<RawValue>>", code, detail,
            submitted_by AS "submitted_by: UserId", for_all, received_at
        FROM points_dead
        WHERE ($1::uuid IS NULL OR submitted_by = $1)
          AND ($2::text IS NULL OR code = $2)
          AND ($3::uuid IS NULL OR id < $3)
        ORDER BY id DESC
        LIMIT $4"#,
        submitter.map(|submitter| submitter.0),
        code,
        before,
        limit,
    );
    Ok(rows.fetch_all(db).await?)
}

/// Which dead letters a step is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Which<'a> {
    pub(crate) submitter: Option<UserId>,
    pub(crate) ids: Option<&'a [Uuid]>,
    pub(crate) code: Option<&'a str>,
    /// Those that came later are not met: what is requeued and dies again would be met twice.
    pub(crate) up_to: Uuid,
    pub(crate) after: Uuid,
    pub(crate) limit: i64,
}

/// The next of them, oldest first: nobody else's until the transaction ends, and those that are somebody else's now are passed over.
pub(crate) async fn claim(db: ByValues<impl PgExecutor<'_>>, which: Which<'_>) -> Result<Vec<DeadRow>> {
    let rows = sqlx::query_as!(
        DeadRow,
        r#"SELECT id, track_id AS "track_id: TrackId", point AS "point: Json<Box<RawValue>>", code, detail,
            submitted_by AS "submitted_by: UserId", for_all, received_at
        FROM points_dead
        WHERE ($1::uuid IS NULL OR submitted_by = $1)
          AND ($2::uuid[] IS NULL OR id = ANY($2))
          AND ($3::text IS NULL OR code = $3)
          AND id > $4
          AND id <= $5
        ORDER BY id
        LIMIT $6
        FOR UPDATE SKIP LOCKED"#,
        which.submitter.map(|submitter| submitter.0),
        which.ids,
        which.code,
        which.after,
        which.up_to,
        which.limit,
    );
    Ok(rows.fetch_all(db).await?)
}

/// Returns how many were there.
pub(crate) async fn delete(db: impl PgExecutor<'_>, ids: &[Uuid]) -> Result<u64> {
    Ok(sqlx::query!("DELETE FROM points_dead WHERE id = ANY($1)", ids).execute(db).await?.rows_affected())
}

/// Users who have some, in the order of their ids after `after`: found by jumping from one to the next.
pub(crate) async fn submitters(pg: &PgPool, after: Uuid, limit: i64) -> Result<Vec<UserId>> {
    let ids = sqlx::query_scalar!(
        r#"WITH RECURSIVE submitters AS (
            (SELECT submitted_by AS id FROM points_dead WHERE submitted_by > $1 ORDER BY submitted_by LIMIT 1)
            UNION ALL
            SELECT (SELECT submitted_by FROM points_dead WHERE submitted_by > submitters.id ORDER BY submitted_by LIMIT 1)
            FROM submitters
            WHERE submitters.id IS NOT NULL
        )
        SELECT id AS "id!: UserId"
        FROM submitters
        WHERE id IS NOT NULL
        LIMIT $2"#,
        after,
        limit,
    );
    Ok(ids.fetch_all(pg).await?)
}

/// The newest that is not among the newest `most` of a user's; `None` when they have no more than those.
pub(crate) async fn newest_beyond(pg: &PgPool, submitter: UserId, most: i64) -> Result<Option<Uuid>> {
    let id =
        sqlx::query_scalar!("SELECT id FROM points_dead WHERE submitted_by = $1 ORDER BY id DESC OFFSET $2 LIMIT 1", submitter.0, most);
    Ok(id.fetch_optional(pg).await?)
}

/// Deletes some of a user's between two ids, the oldest first; returns which. Those that somebody else deletes in this moment are left to them.
pub(crate) async fn delete_oldest(pg: &PgPool, submitter: UserId, (after, up_to): (Uuid, Uuid), limit: i64) -> Result<Vec<Uuid>> {
    let ids = sqlx::query_scalar!(
        "DELETE FROM points_dead
        WHERE id = ANY (ARRAY(
            SELECT id
            FROM points_dead
            WHERE submitted_by = $1 AND id > $2 AND id <= $3
            ORDER BY id
            LIMIT $4
            FOR UPDATE SKIP LOCKED
        ))
        RETURNING id",
        submitter.0,
        after,
        up_to,
        limit,
    );
    Ok(ids.fetch_all(pg).await?)
}
