-- `conclude.sql` for successes of one holder: every one ends, none is noted as an attempt, and its counters stay as the row
-- has them. Rows are found, and ends told to those whom they concern, as there.
WITH gone AS (
    DELETE FROM jobs
    USING UNNEST($1::uuid[], $2::int[], $3::text[], $4::timestamptz[], $5::timestamptz[])
        AS told (id, attempt, result, started_at, finished_at)
    WHERE jobs.id = ANY (ARRAY[told.id])
      AND jobs.state = 'pending'
      AND jobs.attempt < told.attempt
    RETURNING
        jobs.id, owner_id, kind, queue, priority, payload, run_at, expires_at, timeout_ms, max_attempts, retry_base_ms,
        retry_max_ms, told.attempt, failures, snoozes, crashes, cancel_requested_at, unique_key, concurrency_key, tags, target,
        batch_id, request_id, traceparent, created_at, told.result, told.started_at, told.finished_at, awaited
),
ended AS (
    INSERT INTO jobs_ended (
        id, owner_id, kind, queue, state, priority, payload, run_at, expires_at, timeout_ms, max_attempts, retry_base_ms,
        retry_max_ms, attempt, failures, snoozes, crashes, nonce, cancel_requested_at, unique_key, concurrency_key, tags, target,
        batch_id, request_id, traceparent, created_at, result, worker_id, started_at, finished_at)
    SELECT
        id, owner_id, kind, queue, 'succeeded', priority, payload, run_at, expires_at, timeout_ms, max_attempts, retry_base_ms,
        retry_max_ms, attempt, failures, snoozes, crashes, $6, cancel_requested_at, unique_key, concurrency_key, tags, target,
        batch_id, request_id, traceparent, created_at, result::json, $7, started_at, finished_at
    FROM gone
),
dependencies AS (
    INSERT INTO ended_dependencies (job_id, state)
    SELECT id, 'succeeded'
    FROM gone
    WHERE awaited
),
counted AS (
    INSERT INTO batch_changes (batch_id, succeeded)
    SELECT batch_id, count(*)
    FROM gone
    WHERE batch_id IS NOT NULL
    GROUP BY batch_id
)
SELECT id AS "id!: JobId", awaited AS "awaited!", batch_id AS "batch_id?: BatchId" FROM gone
