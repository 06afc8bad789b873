-- Ends jobs that wait for others, and tells those who wait for them, and their batches, as `conclude.sql` does.
WITH told AS (
    SELECT *
    FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[]) AS told (id, state, error_code, error_message)
),
gone AS (
    DELETE FROM jobs
    USING told
    WHERE jobs.id = ANY (ARRAY[told.id])
      AND jobs.state = 'waiting'
      AND wait_reason = 'depends_on'
    RETURNING
        jobs.id, owner_id, kind, queue, told.state, priority, payload, run_at, expires_at, timeout_ms, max_attempts, retry_base_ms,
        retry_max_ms, attempt, failures, snoozes, crashes, nonce, told.error_code, told.error_message, cancel_requested_at, unique_key,
        concurrency_key, tags, target, batch_id, request_id, traceparent, created_at, awaited
),
ended AS (
    INSERT INTO jobs_ended (
        id, owner_id, kind, queue, state, priority, payload, run_at, expires_at, timeout_ms, max_attempts, retry_base_ms,
        retry_max_ms, attempt, failures, snoozes, crashes, nonce, error_code, error_message, cancel_requested_at, unique_key,
        concurrency_key, tags, target, batch_id, request_id, traceparent, created_at, finished_at)
    SELECT
        id, owner_id, kind, queue, state, priority, payload, run_at, expires_at, timeout_ms, max_attempts, retry_base_ms,
        retry_max_ms, attempt, failures, snoozes, crashes, nonce, error_code, error_message, cancel_requested_at, unique_key,
        concurrency_key, tags, target, batch_id, request_id, traceparent, created_at, $5
    FROM gone
),
freed AS (
    DELETE FROM job_dependencies
    USING gone
    WHERE job_id = ANY (ARRAY[gone.id])
),
dependencies AS (
    INSERT INTO ended_dependencies (job_id, state)
    SELECT id, state
    FROM gone
    WHERE awaited
),
counted AS (
    INSERT INTO batch_changes (batch_id, waiting, cancelled, expired)
    SELECT batch_id, -count(*), count(*) FILTER (WHERE state = 'cancelled'), count(*) FILTER (WHERE state = 'expired')
    FROM gone
    WHERE batch_id IS NOT NULL
    GROUP BY batch_id
)
SELECT id AS "id!: JobId", queue AS "queue!", state AS "state!", awaited AS "awaited!", batch_id AS "batch_id?: BatchId" FROM gone
