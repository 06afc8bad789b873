//! Unique keys: new jobs that are written only with their key, who holds a key, and keys whose time is over.

use super::insert::{TAG_SEPARATOR, column};
use crate::{
    ids::JobId,
    jobs::{NewJob, Unique},
};
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use uuid::Uuid;

/// Writes those of `jobs` whose key is free, its time over, or held by one of `replaced`; returns the ids of those written.
/// No two of `jobs` may have the same key.
///
/// Whoever holds a key in a transaction that is open is waited for, so of two at once one is written. The keys are taken in
/// one order, so that two statements wait for each other only one way round.
pub(in crate::jobs) async fn insert_unclaimed(
    executor: impl PgExecutor<'_>,
    jobs: &[&NewJob],
    replaced: &[Uuid],
) -> sqlx::Result<Vec<JobId>> {
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
    let keys = column(jobs, |job| unique(job).key.as_str());
    let ttls_s = column(jobs, |job| unique(job).ttl_s);
    let tags = column(jobs, |job| job.tags.join(TAG_SEPARATOR.encode_utf8(&mut [0; 4])));
    let targets = column(jobs, |job| job.target.as_deref().map(RawValue::get));
    let concurrency_keys = column(jobs, |job| job.concurrency_key.as_deref());
    let request_ids = column(jobs, |job| job.request_id.as_deref());
    let traceparents = column(jobs, |job| job.traceparent.as_deref());
    let created_ats = column(jobs, |job| job.created_at);
    sqlx::query_scalar!(
        r#"WITH new AS MATERIALIZED (
            SELECT *
            FROM unnest(
                $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::smallint[], $6::text[], $7::timestamptz[], $8::timestamptz[],
                $9::integer[], $10::integer[], $11::integer[], $12::integer[], $13::text[], $14::integer[], $15::text[], $16::text[],
                $17::text[], $18::timestamptz[], $20::text[], $21::text[]
            ) AS new (
                id, owner_id, kind, queue, priority, payload, run_at, expires_at, timeout_ms, max_attempts,
                retry_base_ms, retry_max_ms, unique_key, unique_ttl_s, tags, request_id, traceparent, created_at, concurrency_key,
                target
            )
        ),
        claimed AS (
            INSERT INTO job_unique AS held (owner_id, kind, key, job_id, expires_at)
            SELECT owner_id, kind, unique_key, id, now() + make_interval(secs => unique_ttl_s)
            FROM new
            ORDER BY owner_id, kind, unique_key
            ON CONFLICT (owner_id, kind, key) DO UPDATE
            SET job_id = excluded.job_id,
                expires_at = excluded.expires_at
            WHERE held.expires_at <= now()
               OR held.job_id = ANY ($19::uuid[])
            RETURNING job_id
        )
        INSERT INTO jobs (
            id, owner_id, kind, queue, priority, payload, run_at, expires_at, timeout_ms, max_attempts,
            retry_base_ms, retry_max_ms, unique_key, tags, request_id, traceparent, created_at, concurrency_key,
            target
        )
        SELECT
            id, owner_id, kind, queue, priority, payload::json, run_at, expires_at, timeout_ms, max_attempts,
            retry_base_ms, retry_max_ms, unique_key, string_to_array(tags, E'\x1f'), request_id, traceparent, created_at,
            concurrency_key, target::json
        FROM new
        JOIN claimed ON claimed.job_id = new.id
        RETURNING id AS "id: JobId""#,
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
        &keys as _,
        &ttls_s,
        &tags,
        &request_ids as _,
        &traceparents as _,
        &created_ats,
        replaced,
        &concurrency_keys as _,
        &targets as _,
    )
    .fetch_all(executor)
    .await
}

fn unique(job: &NewJob) -> &Unique {
    job.unique.as_ref().expect("only jobs with a key come here")
}

/// Who holds a key.
#[derive(Debug)]
pub(in crate::jobs) struct Holder {
    /// Place among the jobs that were asked for.
    pub(in crate::jobs) ordinal: i64,
    pub(in crate::jobs) job_id: JobId,
    /// `false`: the job was deleted.
    pub(in crate::jobs) is_there: bool,
}

/// Who holds the keys of `jobs`, as of now; a key that nobody holds is left out.
pub(in crate::jobs) async fn holders(executor: impl PgExecutor<'_>, jobs: &[&NewJob]) -> sqlx::Result<Vec<Holder>> {
    let owner_ids = column(jobs, |job| job.owner_id.0);
    let kinds = column(jobs, |job| job.kind.as_str());
    let keys = column(jobs, |job| unique(job).key.as_str());
    sqlx::query_as!(
        Holder,
        r#"SELECT
            ordinal AS "ordinal!",
            held.job_id AS "job_id: JobId",
            EXISTS (SELECT FROM jobs WHERE id = held.job_id)
                OR EXISTS (SELECT FROM jobs_ended WHERE id = held.job_id) AS "is_there!"
        FROM unnest($1::uuid[], $2::text[], $3::text[]) WITH ORDINALITY AS asked (owner_id, kind, key, ordinal)
        JOIN job_unique AS held USING (owner_id, kind, key)"#,
        &owner_ids,
        &kinds as _,
        &keys as _,
    )
    .fetch_all(executor)
    .await
}

/// Forgets up to `limit` keys whose time is over; returns how many.
pub(in crate::jobs) async fn delete_expired(executor: impl PgExecutor<'_>, limit: i64) -> sqlx::Result<u64> {
    // A key that is being taken over at this moment is left to whoever does it.
    let deleted = sqlx::query!(
        "DELETE FROM job_unique
        WHERE ctid = ANY (ARRAY (
            SELECT ctid
            FROM job_unique
            WHERE expires_at <= now()
            ORDER BY expires_at
            LIMIT $1
            FOR UPDATE SKIP LOCKED
        ))",
        limit,
    )
    .execute(executor)
    .await?;
    Ok(deleted.rows_affected())
}
