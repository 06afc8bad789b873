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

/// Makes them due now, those first that were due first; returns their queues and ids. They are found among the jobs of the endpoint's owner,
/// by index: looking through those of everybody would be a burden that any user could ask for.
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
              AND owner_id = (SELECT endpoints.owner_id FROM endpoints WHERE endpoints.id = $4)
              AND target ->> 'endpoint_id' = $4::uuid::text
            ORDER BY run_at
            LIMIT $5
            FOR UPDATE SKIP LOCKED
        )
        RETURNING queue, id AS "id: JobId""#,
        now,
        jobs.kind,
        jobs.due_until,
        jobs.endpoint_id.0,
        jobs.limit,
    );
    Ok(rows.fetch_all(pg).await?.into_iter().map(|row| (row.queue, row.id)).collect())
}
