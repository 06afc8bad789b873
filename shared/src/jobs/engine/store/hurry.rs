//! Rows of jobs that are due sooner than they were.

use crate::{
    Result,
    ids::{EndpointId, JobId},
};
use sqlx::PgPool;
use time::OffsetDateTime;

/// Jobs that wait to be delivered to an endpoint again.
#[derive(Debug, Clone, Copy)]
pub(in crate::jobs::engine) struct ToEndpoint {
    pub(in crate::jobs::engine) kind: &'static str,
    pub(in crate::jobs::engine) endpoint_id: EndpointId,
    pub(in crate::jobs::engine) due_until: OffsetDateTime,
    pub(in crate::jobs::engine) limit: i64,
}

/// Makes them due now, those first that were due first; returns their queues and ids. No index leads to them: a person asks for it, now and
/// then.
pub(in crate::jobs::engine) async fn bring_forward(pg: &PgPool, jobs: ToEndpoint, now: OffsetDateTime) -> Result<Vec<(String, JobId)>> {
    let rows = sqlx::query!(
        r#"UPDATE jobs
        SET run_at = $1
        WHERE id IN (
            SELECT id
            FROM jobs
            WHERE state = 'pending'
              AND kind = $2
              AND attempt > 0
              AND run_at > $1
              AND run_at <= $3
              AND target ->> 'endpoint_id' = $4
            ORDER BY run_at
            LIMIT $5
            FOR UPDATE SKIP LOCKED
        )
        RETURNING queue, id AS "id: JobId""#,
        now,
        jobs.kind,
        jobs.due_until,
        jobs.endpoint_id.to_string(),
        jobs.limit,
    );
    Ok(rows.fetch_all(pg).await?.into_iter().map(|row| (row.queue, row.id)).collect())
}
