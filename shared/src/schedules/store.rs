//! Statements on `schedules` and `schedule_runs`.

use super::{Overlap, Schedule, ScheduledJob};
use crate::{
    Result, Role,
    ids::{JobId, ScheduleId, UserId},
    jobs::{JobError, QueueName},
    pg::ByValues,
};
use serde_json::value::RawValue;
use sqlx::{PgConnection, PgExecutor, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

pub(super) struct ScheduleRow {
    id: ScheduleId,
    owner_id: Option<UserId>,
    name: String,
    kind: String,
    queue: String,
    payload: Json<Box<RawValue>>,
    job: Json<ScheduledJob>,
    target_origin: Option<String>,
    cron: Option<String>,
    every_ms: Option<i64>,
    timezone: String,
    overlap: Overlap,
    catch_up: bool,
    paused: bool,
    next_run_at: Option<OffsetDateTime>,
    last_run_at: Option<OffsetDateTime>,
    last_job_id: Option<JobId>,
    error_code: Option<String>,
    error_message: Option<String>,
    created_at: OffsetDateTime,
}

impl From<ScheduleRow> for Schedule {
    fn from(row: ScheduleRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            kind: row.kind,
            queue: row.queue,
            payload: row.payload.0,
            job: row.job.0,
            target_origin: row.target_origin,
            cron: row.cron,
            every_ms: row.every_ms,
            timezone: row.timezone,
            overlap: row.overlap,
            catch_up: row.catch_up,
            paused: row.paused,
            next_run_at: row.next_run_at,
            last_run_at: row.last_run_at,
            last_job_id: row.last_job_id,
            last_error: row.error_code.zip(row.error_message).map(|(code, message)| JobError { code, message }),
            owner_id: row.owner_id,
            created_at: row.created_at,
        }
    }
}

/// A schedule that `owner` may see; `None` sees all.
pub(super) async fn by_id(db: impl PgExecutor<'_>, id: ScheduleId, owner: Option<UserId>) -> Result<Option<Schedule>> {
    let row = sqlx::query_as!(
        ScheduleRow,
        r#"SELECT id AS "id: ScheduleId", owner_id AS "owner_id: UserId", name, kind, queue, payload AS "payload: Json<Box<RawValue>>",
            job AS "job: Json<ScheduledJob>", target_origin, cron, every_ms, timezone, overlap AS "overlap: Overlap", catch_up, paused,
            next_run_at, last_run_at, last_job_id AS "last_job_id: JobId", error_code, error_message, created_at
        FROM schedules
        WHERE id = $1 AND ($2::uuid IS NULL OR owner_id = $2)"#,
        id.0,
        owner.map(|owner| owner.0),
    );
    Ok(row.fetch_optional(db).await?.map(Schedule::from))
}

/// The same, and keeps others from changing it until the transaction ends.
pub(super) async fn lock(tx: &mut PgConnection, id: ScheduleId, owner: Option<UserId>) -> Result<Option<Schedule>> {
    let row = sqlx::query_as!(
        ScheduleRow,
        r#"SELECT id AS "id: ScheduleId", owner_id AS "owner_id: UserId", name, kind, queue, payload AS "payload: Json<Box<RawValue>>",
            job AS "job: Json<ScheduledJob>", target_origin, cron, every_ms, timezone, overlap AS "overlap: Overlap", catch_up, paused,
            next_run_at, last_run_at, last_job_id AS "last_job_id: JobId", error_code, error_message, created_at
        FROM schedules
        WHERE id = $1 AND ($2::uuid IS NULL OR owner_id = $2)
        FOR UPDATE"#,
        id.0,
        owner.map(|owner| owner.0),
    );
    Ok(row.fetch_optional(tx).await?.map(Schedule::from))
}

/// Newest first.
pub(super) async fn page(
    db: ByValues<impl PgExecutor<'_>>,
    owner: Option<UserId>,
    below: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Schedule>> {
    let rows = sqlx::query_as!(
        ScheduleRow,
        r#"SELECT id AS "id: ScheduleId", owner_id AS "owner_id: UserId", name, kind, queue, payload AS "payload: Json<Box<RawValue>>",
            job AS "job: Json<ScheduledJob>", target_origin, cron, every_ms, timezone, overlap AS "overlap: Overlap", catch_up, paused,
            next_run_at, last_run_at, last_job_id AS "last_job_id: JobId", error_code, error_message, created_at
        FROM schedules
        WHERE ($1::uuid IS NULL OR owner_id = $1) AND ($2::uuid IS NULL OR id < $2)
        ORDER BY id DESC
        LIMIT $3"#,
        owner.map(|owner| owner.0),
        below,
        limit,
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(Schedule::from).collect())
}

/// Lets one transaction at a time make schedules: two at once would count before either has made its own.
pub(super) async fn lock_creation(tx: &mut PgConnection) -> Result<()> {
    // The number only has to differ from other advisory locks of this database.
    sqlx::query!("SELECT pg_advisory_xact_lock(7205762)").execute(tx).await?;
    Ok(())
}

/// How many there are, and how many of them are `owner`'s.
pub(super) async fn counts(db: impl PgExecutor<'_>, owner: UserId) -> Result<(i64, i64)> {
    let row = sqlx::query!(
        r#"SELECT count(*) AS "all!", count(*) FILTER (WHERE owner_id = $1) AS "own!"
        FROM schedules"#,
        owner.0,
    );
    let counts = row.fetch_one(db).await?;
    Ok((counts.all, counts.own))
}

/// `false` when its owner has one of that name already.
pub(super) async fn insert(db: impl PgExecutor<'_>, schedule: &Schedule) -> Result<bool> {
    let done = sqlx::query!(
        "INSERT INTO schedules (
            id, owner_id, name, kind, queue, payload, job, cron, every_ms, timezone, overlap, catch_up, paused, next_run_at, created_at,
            updated_at, target_origin
        )
        VALUES ($1, $2, $3, $4, $5, $6::text::json, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15, $16)
        ON CONFLICT DO NOTHING",
        schedule.id.0,
        schedule.owner_id.map(|owner| owner.0),
        schedule.name,
        schedule.kind,
        schedule.queue,
        schedule.payload.get(),
        Json(&schedule.job) as _,
        schedule.cron,
        schedule.every_ms,
        schedule.timezone,
        schedule.overlap as Overlap,
        schedule.catch_up,
        schedule.paused,
        schedule.next_run_at,
        schedule.created_at,
        schedule.target_origin,
    );
    Ok(done.execute(db).await?.rows_affected() == 1)
}

/// Writes every setting of a schedule, and when it is due next. `false` when its owner has another one of that name.
pub(super) async fn update(tx: &mut PgConnection, schedule: &Schedule, now: OffsetDateTime) -> Result<bool> {
    let done = sqlx::query!(
        "UPDATE schedules
        SET name = $2, kind = $3, queue = $4, payload = $5::text::json, job = $6, cron = $7, every_ms = $8, timezone = $9, overlap = $10,
            catch_up = $11, paused = $12, next_run_at = $13, updated_at = $14, target_origin = $15
        WHERE id = $1
          AND NOT EXISTS (
            SELECT
            FROM schedules AS other
            WHERE other.owner_id IS NOT DISTINCT FROM schedules.owner_id AND other.name = $2 AND other.id <> $1
          )",
        schedule.id.0,
        schedule.name,
        schedule.kind,
        schedule.queue,
        schedule.payload.get(),
        Json(&schedule.job) as _,
        schedule.cron,
        schedule.every_ms,
        schedule.timezone,
        schedule.overlap as Overlap,
        schedule.catch_up,
        schedule.paused,
        schedule.next_run_at,
        now,
        schedule.target_origin,
    );
    Ok(done.execute(tx).await?.rows_affected() == 1)
}

pub(super) async fn delete(tx: &mut PgConnection, id: ScheduleId) -> Result<()> {
    sqlx::query!("DELETE FROM schedules WHERE id = $1", id.0).execute(tx).await?;
    Ok(())
}

/// Those that are due, the longest first, after `last` in that order.
pub(super) async fn due(
    db: impl PgExecutor<'_>,
    now: OffsetDateTime,
    last: Option<(OffsetDateTime, ScheduleId)>,
    limit: i64,
) -> Result<Vec<(OffsetDateTime, ScheduleId)>> {
    let rows = sqlx::query!(
        r#"SELECT next_run_at AS "next_run_at!", id AS "id: ScheduleId"
        FROM schedules
        WHERE next_run_at <= $1
          AND ($2::timestamptz IS NULL OR (next_run_at, id) > ($2, $3))
        ORDER BY next_run_at, id
        LIMIT $4"#,
        now,
        last.map(|last| last.0),
        last.map(|last| last.1.0),
        limit,
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(|row| (row.next_run_at, row.id)).collect())
}

/// When the next one is due.
pub(super) async fn next_due(db: impl PgExecutor<'_>) -> Result<Option<OffsetDateTime>> {
    Ok(sqlx::query_scalar!("SELECT min(next_run_at) FROM schedules WHERE next_run_at IS NOT NULL").fetch_one(db).await?)
}

/// What the owner of a schedule may: their role, and whether they cannot sign in. `None`: there is no such user.
pub(super) async fn owner(db: impl PgExecutor<'_>, id: UserId) -> Result<Option<(Role, bool)>> {
    let row = sqlx::query!(r#"SELECT role AS "role: Role", disabled FROM users WHERE id = $1"#, id.0);
    Ok(row.fetch_optional(db).await?.map(|row| (row.role, row.disabled)))
}

/// Takes an occurrence; `false` when it was dealt with before.
pub(super) async fn take_occurrence(tx: &mut PgConnection, id: ScheduleId, fire_at: OffsetDateTime) -> Result<bool> {
    let done = sqlx::query!(
        "INSERT INTO schedule_runs (schedule_id, fire_at)
        VALUES ($1, $2)
        ON CONFLICT DO NOTHING",
        id.0,
        fire_at,
    );
    Ok(done.execute(tx).await?.rows_affected() == 1)
}

/// Jobs of a schedule that are still to be done, the newest first.
pub(super) async fn live_jobs(tx: &mut PgConnection, id: ScheduleId, limit: i64) -> Result<Vec<(JobId, QueueName)>> {
    let rows = sqlx::query!(
        r#"SELECT jobs.id AS "id: JobId", jobs.queue
        FROM schedule_runs
        JOIN jobs ON jobs.id = schedule_runs.job_id
        WHERE schedule_runs.schedule_id = $1
        ORDER BY schedule_runs.fire_at DESC
        LIMIT $2"#,
        id.0,
        limit,
    );
    rows.fetch_all(tx).await?.into_iter().map(|row| Ok((row.id, QueueName::new(&row.queue)?))).collect()
}

/// Notes which job an occurrence became.
pub(super) async fn note_job(tx: &mut PgConnection, id: ScheduleId, fire_at: OffsetDateTime, job_id: JobId) -> Result<()> {
    sqlx::query!(
        "WITH run AS (
            UPDATE schedule_runs
            SET job_id = $3
            WHERE schedule_id = $1 AND fire_at = $2
        )
        UPDATE schedules
        SET last_run_at = $2, last_job_id = $3, error_code = NULL, error_message = NULL
        WHERE id = $1",
        id.0,
        fire_at,
        job_id.0,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes why an occurrence became no job.
pub(super) async fn note_refusal(tx: &mut PgConnection, id: ScheduleId, fire_at: OffsetDateTime, error: &JobError) -> Result<()> {
    sqlx::query!(
        "UPDATE schedules
        SET last_run_at = $2, error_code = $3, error_message = $4
        WHERE id = $1",
        id.0,
        fire_at,
        error.code,
        error.message,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn move_on(tx: &mut PgConnection, id: ScheduleId, next_run_at: Option<OffsetDateTime>) -> Result<()> {
    sqlx::query!("UPDATE schedules SET next_run_at = $2 WHERE id = $1", id.0, next_run_at).execute(tx).await?;
    Ok(())
}

/// Forgets occurrences before `cutoff` whose job is over, at most `limit` at once; returns how many.
pub(super) async fn forget_runs(db: impl PgExecutor<'_>, cutoff: OffsetDateTime, limit: i64) -> Result<u64> {
    let done = sqlx::query!(
        "DELETE FROM schedule_runs
        WHERE (schedule_id, fire_at) IN (
            SELECT schedule_id, fire_at
            FROM schedule_runs
            WHERE fire_at < $1
              AND NOT EXISTS (SELECT FROM jobs WHERE jobs.id = schedule_runs.job_id)
            ORDER BY fire_at
            LIMIT $2
        )",
        cutoff,
        limit,
    );
    Ok(done.execute(db).await?.rows_affected())
}
