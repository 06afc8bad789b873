//! Conclusions of jobs that have no row yet.

use super::super::{
    outcome::Conclusion,
    store::{Written, conclude::Columns},
    volatile::Record,
};
use crate::{
    ids::{BatchId, JobId},
    jobs::store::insert::TAG_SEPARATOR,
};
use serde_json::value::RawValue;
use sqlx::PgConnection;
use uuid::Uuid;

/// Writes what ends, with its whole row, and notes the attempts of what does not; returns those written, in one statement.
///
/// What is missing from the answer was refused, or has been written before. Every conclusion has its record.
pub(in crate::jobs::engine) async fn conclude_volatile(pg: &mut PgConnection, conclusions: &[&Conclusion]) -> sqlx::Result<Vec<Written>> {
    let recorded: Vec<(&Conclusion, &Record)> = conclusions.iter().filter_map(|c| Some((*c, c.delivery.record.as_deref()?))).collect();
    let columns = Columns::of(conclusions);
    let owner_ids = column(&recorded, |record| record.owner_id.0);
    let kinds = column(&recorded, |record| record.kind.as_str());
    let queues = column(&recorded, |record| record.queue.as_str());
    let priorities = recorded.iter().map(|(conclusion, _)| conclusion.standing.priority).collect::<Vec<_>>();
    let payloads = column(&recorded, |record| RawValue::get(&record.payload));
    let run_ats = column(&recorded, |record| record.run_at);
    let expires_ats = column(&recorded, |record| record.expires_at);
    let timeouts_ms = column(&recorded, |record| record.timeout_ms);
    let max_attempts = column(&recorded, |record| record.retry.max_attempts);
    let retry_bases_ms = column(&recorded, |record| record.retry.base_ms);
    let retry_maxs_ms = column(&recorded, |record| record.retry.max_ms);
    let tags = column(&recorded, |record| record.tags.join(TAG_SEPARATOR.encode_utf8(&mut [0; 4])));
    let request_ids = column(&recorded, |record| record.request_id.as_deref());
    let traceparents = column(&recorded, |record| record.traceparent.as_deref());
    let created_ats = column(&recorded, |record| record.created_at);
    sqlx::query_file_as!(
        Written,
        "src/jobs/engine/store/conclude_volatile.sql",
        &columns.ids,
        &columns.attempts,
        &columns.nonces,
        &columns.states as _,
        &columns.failures,
        &columns.snoozes,
        &columns.crashes,
        &columns.error_codes as _,
        &columns.error_messages as _,
        &columns.outcomes as _,
        &columns.results as _,
        &columns.workers as _,
        &columns.started_ats as _,
        &columns.finished_ats,
        &owner_ids,
        &kinds as _,
        &queues as _,
        &priorities,
        &payloads as _,
        &run_ats,
        &expires_ats as _,
        &timeouts_ms as _,
        &max_attempts,
        &retry_bases_ms,
        &retry_maxs_ms,
        &tags,
        &request_ids as _,
        &traceparents as _,
        &created_ats,
    )
    .fetch_all(pg)
    .await
}

fn column<'a, T>(recorded: &[(&'a Conclusion, &'a Record)], value: impl Fn(&'a Record) -> T) -> Vec<T> {
    recorded.iter().map(|(_, record)| value(record)).collect()
}

/// The last attempt that is noted of each job that has one.
pub(in crate::jobs::engine) async fn last_attempts(pg: &mut PgConnection, ids: &[JobId]) -> sqlx::Result<Vec<(JobId, i32)>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"SELECT job_id AS "job_id: JobId", max(attempt) AS "attempt!"
        FROM job_attempts
        WHERE job_id = ANY ($1)
        GROUP BY job_id"#,
        &ids,
    )
    .fetch_all(pg)
    .await?;
    Ok(rows.into_iter().map(|row| (row.job_id, row.attempt)).collect())
}
