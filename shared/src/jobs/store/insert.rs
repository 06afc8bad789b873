//! Writing new jobs: any number of them in one statement.

use crate::jobs::NewJob;
use serde_json::value::RawValue;
use sqlx::PgExecutor;

/// Between the tags of one job on their way in; no tag can hold it.
pub(in crate::jobs) const TAG_SEPARATOR: char = '\u{1f}';

/// Writes all of `jobs` or none.
pub(in crate::jobs) async fn insert_jobs(executor: impl PgExecutor<'_>, jobs: &[&NewJob]) -> sqlx::Result<()> {
    let ids = column(jobs, |job| job.id.0);
    let owner_ids = column(jobs, |job| job.owner_id.0);
    let kinds = column(jobs, |job| job.kind.as_str());
    let queues = column(jobs, |job| job.queue.as_str());
    let priorities = column(jobs, |job| job.priority);
    let payloads = column(jobs, |job| RawValue::get(&job.payload));
    let run_ats = column(jobs, |job| job.run_at);
    let expires_ats = column(jobs, |job| job.expires_at);
    let timeouts_ms = column(jobs, |job| job.timeout_ms);
    let max_attempts = column(jobs, |job| job.retry.max_attempts);
    let retry_bases_ms = column(jobs, |job| job.retry.base_ms);
    let retry_maxs_ms = column(jobs, |job| job.retry.max_ms);
    let unique_keys = column(jobs, |job| job.unique.as_ref().map(|unique| unique.key.as_str()));
    let tags = column(jobs, |job| job.tags.join(TAG_SEPARATOR.encode_utf8(&mut [0; 4])));
    let targets = column(jobs, |job| job.target.as_deref().map(RawValue::get));
    let concurrency_keys = column(jobs, |job| job.concurrency_key.as_deref());
    let request_ids = column(jobs, |job| job.request_id.as_deref());
    let traceparents = column(jobs, |job| job.traceparent.as_deref());
    let created_ats = column(jobs, |job| job.created_at);
    sqlx::query!(
        "INSERT INTO jobs (
            id, owner_id, kind, queue, priority, payload, run_at, expires_at, timeout_ms, max_attempts,
            retry_base_ms, retry_max_ms, unique_key, tags, target, request_id, traceparent, created_at, concurrency_key
        )
        SELECT
            id, owner_id, kind, queue, priority, payload::json, run_at, expires_at, timeout_ms, max_attempts,
            retry_base_ms, retry_max_ms, unique_key, string_to_array(tags, E'\\x1f'), target::json, request_id, traceparent,
            created_at, concurrency_key
        FROM unnest(
            $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::smallint[], $6::text[], $7::timestamptz[], $8::timestamptz[],
            $9::integer[], $10::integer[], $11::integer[], $12::integer[], $13::text[], $14::text[], $15::text[], $16::text[],
            $17::text[], $18::timestamptz[], $19::text[]
        ) AS new (
            id, owner_id, kind, queue, priority, payload, run_at, expires_at, timeout_ms, max_attempts,
            retry_base_ms, retry_max_ms, unique_key, tags, target, request_id, traceparent, created_at, concurrency_key
        )",
        &ids,
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
        &unique_keys as _,
        &tags,
        &targets as _,
        &request_ids as _,
        &traceparents as _,
        &created_ats,
        &concurrency_keys as _,
    )
    .execute(executor)
    .await?;
    Ok(())
}

pub(super) fn column<'a, T>(jobs: &[&'a NewJob], value: impl Fn(&'a NewJob) -> T) -> Vec<T> {
    jobs.iter().map(|job| value(job)).collect()
}
