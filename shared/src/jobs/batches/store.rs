//! Statements on `batches`, `batch_jobs` and `batch_changes`.

pub(super) mod upkeep;

use super::{Batch, BatchCounts};
use crate::{
    Role,
    ids::{BatchId, JobId, UserId},
    jobs::{JobError, QueueName},
    page::PageRequest,
    pg::ByValues,
};
use serde_json::value::RawValue;
use sqlx::{PgConnection, PgExecutor, PgPool, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

/// A batch and what is not added to it yet.
struct BatchRow {
    id: BatchId,
    owner_id: UserId,
    name: Option<String>,
    closed: bool,
    total: i32,
    waiting: i32,
    succeeded: i32,
    dead: i32,
    cancelled: i32,
    expired: i32,
    completion_job_id: Option<JobId>,
    error_code: Option<String>,
    error_message: Option<String>,
    created_at: OffsetDateTime,
    completed_at: Option<OffsetDateTime>,
}

impl From<BatchRow> for Batch {
    fn from(row: BatchRow) -> Self {
        let BatchRow { waiting, succeeded, dead, cancelled, expired, .. } = row;
        let mut counts = BatchCounts { pending: 0, running: 0, waiting, succeeded, dead, cancelled, expired };
        let n_ended = counts.ended();
        counts.pending = row.total - waiting - n_ended;
        let progress = match row.total {
            0 if row.closed => 100.0,
            0 => 0.0,
            total => 100.0 * f64::from(n_ended) / f64::from(total),
        };
        Self {
            id: row.id,
            name: row.name,
            state: Self::state_of(row.closed, row.completed_at.is_some()),
            closed: row.closed,
            total: row.total,
            counts,
            progress,
            completion_job_id: row.completion_job_id,
            error: row.error_code.zip(row.error_message).map(|(code, message)| JobError { code, message }),
            owner_id: row.owner_id,
            created_at: row.created_at,
            completed_at: row.completed_at,
        }
    }
}

/// What a batch submits when it is complete.
pub(super) struct Completion {
    pub(super) submit: Box<RawValue>,
    /// Where the endpoint of its target led when the target's headers were given, if they are for that alone.
    pub(super) origin: Option<String>,
}

/// What is known of a new batch.
pub(super) struct NewRow<'a> {
    pub(super) id: BatchId,
    pub(super) owner_id: UserId,
    pub(super) name: Option<&'a str>,
    pub(super) on_complete: Option<&'a RawValue>,
    pub(super) completion_origin: Option<&'a str>,
    pub(super) jobs_max: i32,
}

pub(super) async fn insert(tx: &mut PgConnection, new: &NewRow<'_>, now: OffsetDateTime) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO batches (id, owner_id, name, closed, on_complete, completion_origin, jobs_max, created_at)
        VALUES ($1, $2, $3, false, $4, $5, $6, $7)",
        new.id.0,
        new.owner_id.0,
        new.name,
        new.on_complete.map(Json) as _,
        new.completion_origin,
        new.jobs_max,
        now,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// How many batches of `owner` are not complete, counted up to `max`.
pub(super) async fn count_to_complete(pg: &PgPool, owner: UserId, max: i64) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "n!" FROM (SELECT FROM batches WHERE owner_id = $1 AND completed_at IS NULL LIMIT $2) AS first_few"#,
        owner.0,
        max,
    )
    .fetch_one(pg)
    .await
}

/// A batch that `owner` may see; `None` sees all.
pub(super) async fn by_id(db: impl PgExecutor<'_>, id: BatchId, owner: Option<UserId>) -> sqlx::Result<Option<Batch>> {
    let row = sqlx::query_as!(
        BatchRow,
        r#"SELECT id AS "id: BatchId", owner_id AS "owner_id: UserId", name, closed,
            batches.total + changed.total AS "total!", batches.waiting + changed.waiting AS "waiting!",
            batches.succeeded + changed.succeeded AS "succeeded!", batches.dead + changed.dead AS "dead!",
            batches.cancelled + changed.cancelled AS "cancelled!", batches.expired + changed.expired AS "expired!",
            completion_job_id AS "completion_job_id: JobId", error_code, error_message, created_at, completed_at
        FROM batches
        CROSS JOIN LATERAL (
            SELECT
                COALESCE(sum(total), 0)::integer AS total, COALESCE(sum(waiting), 0)::integer AS waiting,
                COALESCE(sum(succeeded), 0)::integer AS succeeded, COALESCE(sum(dead), 0)::integer AS dead,
                COALESCE(sum(cancelled), 0)::integer AS cancelled, COALESCE(sum(expired), 0)::integer AS expired
            FROM batch_changes
            WHERE batch_id = batches.id
        ) AS changed
        WHERE id = $1 AND ($2::uuid IS NULL OR owner_id = $2)"#,
        id.0,
        owner.map(|owner| owner.0),
    );
    Ok(row.fetch_optional(db).await?.map(Batch::from))
}

/// Newest first.
pub(super) async fn page(db: ByValues<impl PgExecutor<'_>>, owner: Option<UserId>, request: &PageRequest) -> sqlx::Result<Vec<Batch>> {
    let rows = sqlx::query_as!(
        BatchRow,
        r#"SELECT id AS "id: BatchId", owner_id AS "owner_id: UserId", name, closed,
            batches.total + changed.total AS "total!", batches.waiting + changed.waiting AS "waiting!",
            batches.succeeded + changed.succeeded AS "succeeded!", batches.dead + changed.dead AS "dead!",
            batches.cancelled + changed.cancelled AS "cancelled!", batches.expired + changed.expired AS "expired!",
            completion_job_id AS "completion_job_id: JobId", error_code, error_message, created_at, completed_at
        FROM batches
        CROSS JOIN LATERAL (
            SELECT
                COALESCE(sum(total), 0)::integer AS total, COALESCE(sum(waiting), 0)::integer AS waiting,
                COALESCE(sum(succeeded), 0)::integer AS succeeded, COALESCE(sum(dead), 0)::integer AS dead,
                COALESCE(sum(cancelled), 0)::integer AS cancelled, COALESCE(sum(expired), 0)::integer AS expired
            FROM batch_changes
            WHERE batch_id = batches.id
        ) AS changed
        WHERE ($1::uuid IS NULL OR owner_id = $1) AND ($2::uuid IS NULL OR id < $2)
        ORDER BY id DESC
        LIMIT $3"#,
        owner.map(|owner| owner.0),
        request.before,
        request.fetch(),
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(Batch::from).collect())
}

/// How many of `job_ids` each of these batches has.
pub(super) async fn count_members(pg: &PgPool, batch_ids: &[Uuid], job_ids: &[Uuid]) -> sqlx::Result<Vec<(BatchId, i32)>> {
    let rows = sqlx::query!(
        r#"SELECT batch_id AS "batch_id: BatchId", count(*)::integer AS "n!"
        FROM batch_jobs
        WHERE batch_id = ANY ($1) AND job_id = ANY ($2)
        GROUP BY batch_id"#,
        batch_ids,
        job_ids,
    );
    Ok(rows.fetch_all(pg).await?.into_iter().map(|row| (row.batch_id, row.n)).collect())
}

/// Jobs of a batch below `below`, the newest first.
pub(in crate::jobs) async fn members(pg: &PgPool, id: BatchId, below: Option<Uuid>, limit: i64) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "SELECT job_id
        FROM batch_jobs
        WHERE batch_id = $1 AND ($2::uuid IS NULL OR job_id < $2)
        ORDER BY job_id DESC
        LIMIT $3",
        id.0,
        below,
        limit,
    )
    .fetch_all(pg)
    .await
}

/// A batch that jobs are to join.
#[derive(Debug)]
pub(in crate::jobs) struct OpenBatch {
    pub(in crate::jobs) id: BatchId,
    pub(in crate::jobs) owner_id: UserId,
    pub(in crate::jobs) closed: bool,
    /// Jobs that it takes yet; those who join at the same moment all see the same room.
    pub(in crate::jobs) room: i32,
}

/// Keeps batches from being closed until the transaction ends. Those who count them do not wait for it.
pub(in crate::jobs) async fn keep_open(tx: &mut PgConnection, ids: &[BatchId]) -> sqlx::Result<Vec<OpenBatch>> {
    let ids = ids.iter().map(|id| id.0).collect::<Vec<_>>();
    sqlx::query_as!(
        OpenBatch,
        r#"SELECT id AS "id: BatchId", owner_id AS "owner_id: UserId", closed,
            GREATEST(
                jobs_max - total - (SELECT COALESCE(sum(total), 0)::integer FROM batch_changes WHERE batch_id = batches.id), 0
            ) AS "room!"
        FROM batches
        WHERE id = ANY ($1)
        ORDER BY id
        FOR KEY SHARE"#,
        &ids,
    )
    .fetch_all(tx)
    .await
}

/// Closes a batch once all who are joining it have; `None` when it is not `owner`'s.
pub(super) async fn close(tx: &mut PgConnection, id: BatchId, owner: Option<UserId>) -> sqlx::Result<Option<Batch>> {
    // Waits for `keep_open`, which the update alone would not.
    let locked = sqlx::query!(
        "SELECT id FROM batches WHERE id = $1 AND ($2::uuid IS NULL OR owner_id = $2) FOR UPDATE",
        id.0,
        owner.map(|owner| owner.0),
    );
    if locked.fetch_optional(&mut *tx).await?.is_none() {
        return Ok(None);
    }
    sqlx::query!("UPDATE batches SET closed = true WHERE id = $1 AND NOT closed", id.0).execute(&mut *tx).await?;
    by_id(tx, id, None).await
}

/// Lets one transaction at a time count a batch; `false` when it is gone.
pub(super) async fn lock(tx: &mut PgConnection, id: BatchId) -> sqlx::Result<bool> {
    Ok(sqlx::query!("SELECT id FROM batches WHERE id = $1 FOR NO KEY UPDATE", id.0).fetch_optional(tx).await?.is_some())
}

/// Adds what changed to a batch that is locked; returns how it stands, and what it submits when it is complete.
pub(super) async fn count(tx: &mut PgConnection, id: BatchId) -> sqlx::Result<(Batch, Option<Completion>)> {
    // A statement of its own, whose sight begins after the lock was had: it sees all that was told before the batch was closed.
    let row = sqlx::query!(
        r#"WITH changes AS (
            DELETE FROM batch_changes
            WHERE batch_id = $1
            RETURNING total, waiting, succeeded, dead, cancelled, expired
        ),
        changed AS (
            SELECT
                COALESCE(sum(total), 0) AS total, COALESCE(sum(waiting), 0) AS waiting, COALESCE(sum(succeeded), 0) AS succeeded,
                COALESCE(sum(dead), 0) AS dead, COALESCE(sum(cancelled), 0) AS cancelled, COALESCE(sum(expired), 0) AS expired
            FROM changes
        )
        UPDATE batches
        SET total = batches.total + changed.total,
            waiting = batches.waiting + changed.waiting,
            succeeded = batches.succeeded + changed.succeeded,
            dead = batches.dead + changed.dead,
            cancelled = batches.cancelled + changed.cancelled,
            expired = batches.expired + changed.expired
        FROM changed
        WHERE id = $1
        RETURNING on_complete AS "on_complete: Json<Box<RawValue>>", completion_origin"#,
        id.0,
    );
    let row = row.fetch_one(&mut *tx).await?;
    let completion = row.on_complete.map(|Json(submit)| Completion { submit, origin: row.completion_origin });
    let batch = by_id(tx, id, None).await?.ok_or(sqlx::Error::RowNotFound)?;
    Ok((batch, completion))
}

pub(super) async fn complete(
    tx: &mut PgConnection,
    id: BatchId,
    now: OffsetDateTime,
    job_id: Option<JobId>,
    error: Option<&JobError>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE batches
        SET completed_at = $2, completion_job_id = $3, error_code = $4, error_message = $5
        WHERE id = $1",
        id.0,
        now,
        job_id.map(|id| id.0),
        error.map(|error| error.code.as_str()),
        error.map(|error| error.message.as_str()),
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn forget_changes(tx: &mut PgConnection, id: BatchId) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM batch_changes WHERE batch_id = $1", id.0).execute(tx).await?;
    Ok(())
}

/// Batches with changes that are not added to them.
pub(super) async fn changed(pg: &PgPool, limit: i64) -> sqlx::Result<Vec<BatchId>> {
    sqlx::query_scalar!(r#"SELECT DISTINCT batch_id AS "batch_id: BatchId" FROM batch_changes LIMIT $1"#, limit).fetch_all(pg).await
}

/// What the owner of a batch may: their role, and whether they cannot sign in. `None`: there is no such user.
pub(super) async fn owner(tx: &mut PgConnection, id: UserId) -> sqlx::Result<Option<(Role, bool)>> {
    let row = sqlx::query!(r#"SELECT role AS "role: Role", disabled FROM users WHERE id = $1"#, id.0);
    Ok(row.fetch_optional(tx).await?.map(|row| (row.role, row.disabled)))
}

/// The next live jobs of a batch after `after`, with their queues and whether they wait.
pub(super) async fn live_jobs(pg: &PgPool, id: BatchId, after: Uuid, limit: i64) -> crate::Result<Vec<(JobId, QueueName, bool)>> {
    let rows = sqlx::query!(
        r#"SELECT jobs.id AS "id: JobId", queue, state = 'waiting' AS "is_waiting!"
        FROM batch_jobs
        JOIN jobs ON jobs.id = batch_jobs.job_id
        WHERE batch_jobs.batch_id = $1
          AND batch_jobs.job_id > $2
        ORDER BY batch_jobs.job_id
        LIMIT $3"#,
        id.0,
        after,
        limit,
    );
    rows.fetch_all(pg).await?.into_iter().map(|row| Ok((row.id, QueueName::new(&row.queue)?, row.is_waiting))).collect()
}
