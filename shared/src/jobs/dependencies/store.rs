//! Who waits for whom: marking jobs that are waited for, tying those that wait, and what becomes of them when others end.

use crate::{
    ids::{BatchId, JobId, UserId},
    jobs::NewJob,
};
use sqlx::{PgConnection, PgExecutor, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

/// A job that somebody is to wait for; `state` is as stored.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) id: JobId,
    pub(super) state: String,
}

/// Has the ends of those of `ids` that are live, and `owner`'s, told from now on; returns how all of `ids` stand that are `owner`'s.
/// `None` owns all.
///
/// One that ends at this moment may be returned as it was before, and its end goes untold: so look again once the one that waits is
/// committed ([`note_ended`]).
pub(super) async fn mark_awaited(pg: &PgPool, ids: &[Uuid], owner: Option<UserId>) -> sqlx::Result<Vec<Asked>> {
    sqlx::query_as!(
        Asked,
        r#"WITH live AS (
            SELECT id, awaited
            FROM jobs
            WHERE id = ANY ($1) AND ($2::uuid IS NULL OR owner_id = $2)
        ),
        -- In the order in which conclusions take rows, so that none waits for another in a ring.
        unmarked AS (
            SELECT id
            FROM jobs
            WHERE id = ANY (ARRAY (SELECT id FROM live WHERE NOT awaited))
            ORDER BY id
            FOR UPDATE
        ),
        marked AS (
            UPDATE jobs
            SET awaited = true
            FROM unmarked
            WHERE jobs.id = ANY (ARRAY[unmarked.id])
        )
        SELECT id AS "id!: JobId", 'pending' AS "state!" FROM live
        UNION ALL
        SELECT id, state FROM jobs_ended WHERE id = ANY ($1) AND ($2::uuid IS NULL OR owner_id = $2)"#,
        ids,
        owner.map(|owner| owner.0),
    )
    .fetch_all(pg)
    .await
}

/// Ties jobs that were just written, in the same transaction, to their batches and to those that they wait for.
pub(in crate::jobs) async fn tie(tx: &mut PgConnection, jobs: &[&NewJob]) -> sqlx::Result<()> {
    if jobs.is_empty() {
        return Ok(());
    }
    let ids = jobs.iter().map(|job| job.id.0).collect::<Vec<_>>();
    let batch_ids = jobs.iter().map(|job| job.batch_id.map(|id| id.0)).collect::<Vec<_>>();
    let waits = jobs.iter().map(|job| job.is_waiting()).collect::<Vec<_>>();
    let pairs = jobs.iter().flat_map(|job| job.depends_on.iter().map(|depends_on| (job.id.0, depends_on.0)));
    let (waiting, depends_on): (Vec<Uuid>, Vec<Uuid>) = pairs.unzip();
    sqlx::query!(
        "WITH new AS (
            SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::boolean[]) AS new (id, batch_id, waits)
        ),
        tied AS (
            UPDATE jobs
            SET batch_id = new.batch_id,
                state = CASE WHEN new.waits THEN 'waiting' ELSE 'pending' END,
                wait_reason = CASE WHEN new.waits THEN 'depends_on' END
            FROM new
            WHERE jobs.id = ANY (ARRAY[new.id])
        ),
        members AS (
            INSERT INTO batch_jobs (batch_id, job_id)
            SELECT batch_id, id
            FROM new
            WHERE batch_id IS NOT NULL
        ),
        counted AS (
            INSERT INTO batch_changes (batch_id, total, waiting)
            SELECT batch_id, count(*), count(*) FILTER (WHERE waits)
            FROM new
            WHERE batch_id IS NOT NULL
            GROUP BY batch_id
        )
        INSERT INTO job_dependencies (job_id, depends_on)
        SELECT * FROM unnest($4::uuid[], $5::uuid[])",
        &ids,
        &batch_ids as _,
        &waits,
        &waiting,
        &depends_on,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes those of `ids` that are over, or gone, for [`take_ended`]; returns how many. A second note of one does no harm.
pub(super) async fn note_ended(pg: &PgPool, ids: &[Uuid]) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "INSERT INTO ended_dependencies (job_id, state)
        SELECT asked.id, COALESCE((SELECT state FROM jobs_ended WHERE jobs_ended.id = asked.id), 'deleted')
        FROM unnest($1::uuid[]) AS asked (id)
        WHERE NOT EXISTS (SELECT FROM jobs WHERE jobs.id = asked.id OFFSET 0)",
        ids,
    )
    .execute(pg)
    .await?;
    Ok(done.rows_affected())
}

/// A job that ended and that others may wait for.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) note: i64,
    pub(super) id: JobId,
    pub(super) state: String,
}

/// Takes up to `limit` of those that ended, which nobody else has taken, until the transaction ends.
pub(super) async fn take_ended(tx: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<Ended>> {
    sqlx::query_as!(
        Ended,
        r#"SELECT id AS note, job_id AS "id: JobId", state
        FROM ended_dependencies
        ORDER BY id
        LIMIT $1
        FOR UPDATE SKIP LOCKED"#,
        limit,
    )
    .fetch_all(tx)
    .await
}

pub(super) async fn forget_ended(tx: &mut PgConnection, notes: &[i64]) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM ended_dependencies WHERE id = ANY ($1)", notes).execute(tx).await?;
    Ok(())
}

/// Up to `limit` pairs of a job that waits and one of `ids` that it waits for.
pub(super) async fn waiting_for(tx: &mut PgConnection, ids: &[Uuid], limit: i64) -> sqlx::Result<Vec<(JobId, JobId)>> {
    let rows = sqlx::query!(
        r#"SELECT job_id AS "job_id: JobId", depends_on AS "depends_on: JobId"
        FROM job_dependencies
        WHERE depends_on = ANY ($1)
        LIMIT $2"#,
        ids,
        limit,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.job_id, row.depends_on)).collect())
}

/// Keeps others from changing those of `ids` that wait, and returns them. All who change who waits for what hold the one that waits:
/// of two that take away its last two dependencies, the second sees what the first did.
pub(super) async fn lock_waiting(tx: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<JobId>> {
    sqlx::query_scalar!(
        r#"SELECT id AS "id: JobId"
        FROM jobs
        WHERE id = ANY ($1)
          AND state = 'waiting'
          AND wait_reason = 'depends_on'
        ORDER BY id
        FOR UPDATE"#,
        ids,
    )
    .fetch_all(tx)
    .await
}

/// Takes these pairs of a job that waits and one that it waits for away.
pub(super) async fn untie(tx: &mut PgConnection, pairs: &[(JobId, JobId)]) -> sqlx::Result<()> {
    let (job_ids, depends_on): (Vec<Uuid>, Vec<Uuid>) = pairs.iter().map(|(job_id, depends_on)| (job_id.0, depends_on.0)).unzip();
    sqlx::query!(
        "DELETE FROM job_dependencies
        USING unnest($1::uuid[], $2::uuid[]) AS told (job_id, depends_on)
        WHERE job_dependencies.job_id = told.job_id
          AND job_dependencies.depends_on = told.depends_on",
        &job_ids,
        &depends_on,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// A job that waits no longer.
#[derive(Debug)]
pub(super) struct Released {
    pub(super) id: JobId,
    pub(super) queue: String,
    pub(super) is_cancel_requested: bool,
}

/// Lets those of `ids` run that wait for nobody any more, and notes them until Redis has them.
pub(super) async fn release(tx: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<Released>> {
    sqlx::query_as!(
        Released,
        r#"WITH free AS (
            UPDATE jobs
            SET state = 'pending',
                wait_reason = NULL
            WHERE id = ANY ($1)
              AND state = 'waiting'
              AND wait_reason = 'depends_on'
              AND NOT EXISTS (SELECT FROM job_dependencies WHERE job_dependencies.job_id = jobs.id)
            RETURNING id, queue, batch_id, cancel_requested_at
        ),
        noted AS (
            INSERT INTO released_jobs (job_id, queue)
            SELECT id, queue
            FROM free
            ON CONFLICT DO NOTHING
        ),
        counted AS (
            INSERT INTO batch_changes (batch_id, waiting)
            SELECT batch_id, -count(*)
            FROM free
            WHERE batch_id IS NOT NULL
            GROUP BY batch_id
        )
        SELECT id AS "id!: JobId", queue AS "queue!", cancel_requested_at IS NOT NULL AS "is_cancel_requested!" FROM free"#,
        ids,
    )
    .fetch_all(tx)
    .await
}

/// Released jobs that Redis may not have yet.
pub(super) async fn released(pg: &PgPool, limit: i64) -> sqlx::Result<Vec<Released>> {
    sqlx::query_as!(
        Released,
        r#"SELECT job_id AS "id: JobId", queue, false AS "is_cancel_requested!" FROM released_jobs ORDER BY job_id LIMIT $1"#,
        limit,
    )
    .fetch_all(pg)
    .await
}

pub(super) async fn forget_released(pg: &PgPool, ids: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM released_jobs WHERE job_id = ANY ($1)", ids).execute(pg).await?;
    Ok(())
}

/// The end of a job that waits.
#[derive(Debug)]
pub(super) struct End {
    pub(super) id: JobId,
    /// `cancelled` or `expired`.
    pub(super) state: &'static str,
    pub(super) error_code: Option<&'static str>,
    pub(super) error_message: Option<String>,
}

/// A job that waited and is over.
#[derive(Debug)]
pub(super) struct Over {
    pub(super) id: JobId,
    pub(super) queue: String,
    pub(super) state: String,
    pub(super) awaited: bool,
    pub(super) batch_id: Option<BatchId>,
}

/// Ends those that wait, in one statement; returns which they were.
pub(super) async fn end_waiting(pg: impl PgExecutor<'_>, ends: &[End], now: OffsetDateTime) -> sqlx::Result<Vec<Over>> {
    let ids = ends.iter().map(|end| end.id.0).collect::<Vec<_>>();
    let states = ends.iter().map(|end| end.state).collect::<Vec<_>>();
    let codes = ends.iter().map(|end| end.error_code).collect::<Vec<_>>();
    let messages = ends.iter().map(|end| end.error_message.as_deref()).collect::<Vec<_>>();
    sqlx::query_file_as!(Over, "src/jobs/dependencies/end_waiting.sql", &ids, &states as _, &codes as _, &messages as _, now)
        .fetch_all(pg)
        .await
}

/// The next jobs that are waited for after `after`, in the order of their ids.
pub(super) async fn awaited_page(pg: &PgPool, after: Uuid, limit: i64) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "SELECT DISTINCT depends_on
        FROM job_dependencies
        WHERE depends_on > $1
        ORDER BY depends_on
        LIMIT $2",
        after,
        limit,
    )
    .fetch_all(pg)
    .await
}

/// Up to `limit` jobs that wait for one of `ids` and should not: their cancel was asked for (`true`), or their time is over.
pub(super) async fn overdue_waiting_for(pg: &PgPool, ids: &[Uuid], now: OffsetDateTime, limit: i64) -> sqlx::Result<Vec<(JobId, bool)>> {
    let rows = sqlx::query!(
        r#"SELECT DISTINCT jobs.id AS "id: JobId", cancel_requested_at IS NOT NULL AS "is_cancel_requested!"
        FROM job_dependencies
        JOIN jobs ON jobs.id = job_dependencies.job_id
        WHERE job_dependencies.depends_on = ANY ($1)
          AND jobs.state = 'waiting'
          AND (jobs.expires_at <= $2 OR cancel_requested_at IS NOT NULL)
        LIMIT $3"#,
        ids,
        now,
        limit,
    );
    Ok(rows.fetch_all(pg).await?.into_iter().map(|row| (row.id, row.is_cancel_requested)).collect())
}
