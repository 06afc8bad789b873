//! Statements on `tracks`.

use super::{ListedTrack, Track};
use crate::{
    Result,
    ids::{TrackId, UserId},
    page::PageRequest,
    pg::ByValues,
    points::{HourRow, HourStats, PointRow, PointView},
};
use serde_json::value::RawValue;
use sqlx::{PgConnection, PgExecutor, types::Json};
use time::OffsetDateTime;

struct TrackRow {
    id: TrackId,
    owner_id: UserId,
    name: String,
    external_id: Option<String>,
    attributes: Option<Json<Box<RawValue>>>,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl From<TrackRow> for Track {
    fn from(row: TrackRow) -> Self {
        let TrackRow { id, owner_id, name, external_id, attributes, created_at, updated_at } = row;
        Self { id, name, external_id, attributes: attributes.map(|json| json.0), owner_id, created_at, updated_at }
    }
}

/// What is wanted of each track beside itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beside {
    pub(super) latest: bool,
    pub(super) hour: bool,
}

/// A track that `owner` may see; `None` sees all.
pub(super) async fn by_id(db: impl PgExecutor<'_>, id: TrackId, owner: Option<UserId>) -> Result<Option<Track>> {
    let row = sqlx::query_as!(
        TrackRow,
        r#"SELECT id AS "id: TrackId", owner_id AS "owner_id: UserId", name, external_id, attributes AS "attributes: Json<Box<RawValue>>",
            created_at, updated_at
        FROM tracks
        WHERE id = $1 AND ($2::uuid IS NULL OR owner_id = $2)"#,
        id.0,
        owner.map(|owner| owner.0),
    );
    Ok(row.fetch_optional(db).await?.map(Track::from))
}

/// The same, and keeps others from changing it until the transaction ends.
pub(super) async fn lock(tx: &mut PgConnection, id: TrackId, owner: Option<UserId>) -> Result<Option<Track>> {
    let row = sqlx::query_as!(
        TrackRow,
        r#"SELECT id AS "id: TrackId", owner_id AS "owner_id: UserId", name, external_id, attributes AS "attributes: Json<Box<RawValue>>",
            created_at, updated_at
        FROM tracks
        WHERE id = $1 AND ($2::uuid IS NULL OR owner_id = $2)
        FOR UPDATE"#,
        id.0,
        owner.map(|owner| owner.0),
    );
    Ok(row.fetch_optional(tx).await?.map(Track::from))
}

pub(super) async fn exists(db: impl PgExecutor<'_>, id: TrackId, owner: Option<UserId>) -> Result<bool> {
    let found = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM tracks WHERE id = $1 AND ($2::uuid IS NULL OR owner_id = $2)) AS "exists!""#,
        id.0,
        owner.map(|owner| owner.0),
    );
    Ok(found.fetch_one(db).await?)
}

/// Whether it is a user who can sign in, and is trusted with what is everybody's.
pub(super) async fn is_operator(db: impl PgExecutor<'_>, id: UserId) -> Result<bool> {
    let found = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM users WHERE id = $1 AND role IN ('operator', 'admin') AND NOT disabled) AS "found!""#,
        id.0,
    );
    Ok(found.fetch_one(db).await?)
}

/// The names of tracks that `owner` may see (`None` sees all): those of `ids`, or all of them; `limit` at most.
pub(super) async fn names(
    db: ByValues<impl PgExecutor<'_>>,
    owner: Option<UserId>,
    ids: Option<&[uuid::Uuid]>,
    limit: usize,
) -> Result<Vec<(TrackId, String)>> {
    let rows = sqlx::query!(
        r#"SELECT id AS "id: TrackId", name
        FROM tracks
        WHERE ($1::uuid IS NULL OR owner_id = $1)
          AND ($2::uuid[] IS NULL OR id = ANY($2))
        LIMIT $3"#,
        owner.map(|owner| owner.0),
        ids,
        i64::try_from(limit).unwrap_or(i64::MAX),
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(|row| (row.id, row.name)).collect())
}

/// Whose the tracks are; those that are not there are left out.
pub(crate) async fn owners(db: impl PgExecutor<'_>, ids: &[uuid::Uuid]) -> Result<Vec<(TrackId, UserId)>> {
    let rows = sqlx::query!(
        r#"SELECT id AS "id: TrackId", owner_id AS "owner_id: UserId"
        FROM tracks
        WHERE id = ANY($1)"#,
        ids,
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(|row| (row.id, row.owner_id)).collect())
}

/// Newest first. The hour of the latest point says which point that is: one look at each track's hours, and one at the point.
pub(super) async fn page(
    db: ByValues<impl PgExecutor<'_>>,
    owner: Option<UserId>,
    external_id: Option<&str>,
    beside: Beside,
    request: &PageRequest,
) -> Result<Vec<ListedTrack>> {
    let rows = sqlx::query!(
        r#"SELECT page.id AS "id: TrackId", owner_id AS "owner_id: UserId", name, external_id,
            page.attributes AS "track_attributes: Json<Box<RawValue>>", created_at, updated_at,
            points.recorded_at AS "recorded_at?", lat AS "lat?", lon AS "lon?", altitude_m, speed_mps, heading_deg, accuracy_m,
            points.attributes AS "attributes?",
            hour AS "hour?", count AS "count?", speed_count AS "speed_count?", speed_sum AS "speed_sum?", speed_min AS "speed_min?",
            speed_max AS "speed_max?", distance_m AS "distance_m?", west AS "west?", south AS "south?", east AS "east?", north AS "north?"
        FROM (
            SELECT *
            FROM tracks
            WHERE ($1::uuid IS NULL OR owner_id = $1)
              AND ($2::text IS NULL OR external_id = $2)
              AND ($3::uuid IS NULL OR id < $3)
            ORDER BY id DESC
            LIMIT $4
        ) AS page
        LEFT JOIN LATERAL (
            SELECT *
            FROM point_hours
            WHERE track_id = page.id AND ($5 OR $6)
            ORDER BY hour DESC
            LIMIT 1
        ) AS newest ON true
        LEFT JOIN points ON $5 AND points.track_id = page.id AND points.recorded_at = newest.last_at
        ORDER BY page.id DESC"#,
        owner.map(|owner| owner.0),
        external_id,
        request.before,
        request.fetch(),
        beside.latest,
        beside.hour,
    )
    .fetch_all(db)
    .await?;
    let listed = rows.into_iter().map(|row| {
        let point = row.recorded_at.zip(row.lat).zip(row.lon).map(|((recorded_at, lat), lon)| PointRow {
            track_id: row.id,
            recorded_at,
            lat,
            lon,
            altitude_m: row.altitude_m,
            speed_mps: row.speed_mps,
            heading_deg: row.heading_deg,
            accuracy_m: row.accuracy_m,
            attributes: row.attributes,
        });
        let hour = row.hour.filter(|_| beside.hour).map(|start| HourRow {
            start,
            count: row.count,
            speed_count: row.speed_count,
            speed_sum: row.speed_sum,
            speed_min: row.speed_min,
            speed_max: row.speed_max,
            distance_m: row.distance_m,
            west: row.west,
            south: row.south,
            east: row.east,
            north: row.north,
        });
        let track = TrackRow {
            id: row.id,
            owner_id: row.owner_id,
            name: row.name,
            external_id: row.external_id,
            attributes: row.track_attributes,
            created_at: row.created_at,
            updated_at: row.updated_at,
        };
        ListedTrack { track: track.into(), latest: point.map(PointView::from), hour: hour.map(HourStats::from) }
    });
    Ok(listed.collect())
}

/// How many an owner has; exact within a transaction of one that makes another, others of the same owner wait.
pub(super) async fn count(tx: &mut PgConnection, owner_id: UserId) -> Result<i64> {
    sqlx::query!("SELECT id FROM users WHERE id = $1 FOR NO KEY UPDATE", owner_id.0).fetch_optional(&mut *tx).await?;
    let count = sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM tracks WHERE owner_id = $1"#, owner_id.0);
    Ok(count.fetch_one(tx).await?)
}

/// `false` when its owner has one of that `external_id` already.
pub(super) async fn insert(db: impl PgExecutor<'_>, track: &Track) -> Result<bool> {
    let done = sqlx::query!(
        "INSERT INTO tracks (id, owner_id, name, external_id, attributes, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5::text::json, $6, $7)
        ON CONFLICT DO NOTHING",
        track.id.0,
        track.owner_id.0,
        track.name,
        track.external_id,
        track.attributes.as_deref().map(RawValue::get),
        track.created_at,
        track.updated_at,
    );
    Ok(done.execute(db).await?.rows_affected() == 1)
}

/// `false` when its owner has another one of that `external_id`.
pub(super) async fn update(tx: &mut PgConnection, track: &Track) -> Result<bool> {
    let done = sqlx::query!(
        "UPDATE tracks
        SET name = $2, external_id = $3, attributes = $4::text::json, updated_at = $5
        WHERE id = $1
          AND NOT EXISTS (
            SELECT
            FROM tracks AS other
            WHERE other.owner_id = tracks.owner_id AND other.external_id = $3 AND other.id <> $1
          )",
        track.id.0,
        track.name,
        track.external_id,
        track.attributes.as_deref().map(RawValue::get),
        track.updated_at,
    );
    Ok(done.execute(tx).await?.rows_affected() == 1)
}

pub(super) async fn delete(tx: &mut PgConnection, id: TrackId) -> Result<()> {
    sqlx::query!("DELETE FROM tracks WHERE id = $1", id.0).execute(tx).await?;
    Ok(())
}
