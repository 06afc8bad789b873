-- Writes every conclusion whose attempt is above its row's. Ends move from `jobs` to `jobs_ended`; a retry or snooze
-- stays, unless its cancel was asked for: then it ends cancelled. Ends of jobs that others wait for, or that are in a batch, are
-- told in rows of their own; of all other jobs nothing is.
--
-- `= ANY (ARRAY[…])` leaves one way to find a row: its key in the index, for each that is told of. By `=` the two could be joined
-- the other way round, reading all of `jobs` in the order of its key; planned while that is empty, this looks cheaper.
WITH told AS (
    SELECT *
    FROM UNNEST($1::uuid[], $2::int[], $3::uuid[], $4::text[], $5::timestamptz[], $6::int[], $7::int[], $8::smallint[],
                $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::timestamptz[], $15::timestamptz[])
        AS told (id, attempt, nonce, state, run_at, failures, snoozes, crashes, error_code, error_message,
                 outcome, result, worker_id, started_at, finished_at)
),
gone AS (
    DELETE FROM jobs
    USING told
    WHERE jobs.id = ANY (ARRAY[told.id])
      AND jobs.state = 'pending'
      AND jobs.attempt < told.attempt
      AND (told.state <> 'pending' OR jobs.cancel_requested_at IS NOT NULL)
    RETURNING
        jobs.id, owner_id, kind, queue, CASE told.state WHEN 'pending' THEN 'cancelled' ELSE told.state END AS state, priority,
        payload, jobs.run_at, expires_at, timeout_ms, max_attempts, retry_base_ms, retry_max_ms, told.attempt, told.failures,
        told.snoozes, told.crashes, told.nonce, told.error_code, told.error_message, cancel_requested_at, unique_key,
        concurrency_key, tags, target, batch_id, request_id, traceparent, created_at, told.outcome, told.result, told.worker_id,
        told.started_at, told.finished_at, awaited
),
ended AS (
    INSERT INTO jobs_ended (
        id, owner_id, kind, queue, state, priority, payload, run_at, expires_at, timeout_ms, max_attempts,
        retry_base_ms, retry_max_ms, attempt, failures, snoozes, crashes, nonce, error_code, error_message, cancel_requested_at,
        unique_key, concurrency_key, tags, target, batch_id, request_id, traceparent, created_at,
        result, worker_id, started_at, finished_at)
    SELECT
        id, owner_id, kind, queue, state, priority, payload, run_at, expires_at, timeout_ms, max_attempts,
        retry_base_ms, retry_max_ms, attempt, failures, snoozes, crashes, nonce, error_code, error_message, cancel_requested_at,
        unique_key, concurrency_key, tags, target, batch_id, request_id, traceparent, created_at,
        result::json, worker_id, started_at, finished_at
    FROM gone
),
kept AS (
    UPDATE jobs
    SET attempt = told.attempt,
        nonce = told.nonce,
        run_at = told.run_at,
        failures = told.failures,
        snoozes = told.snoozes,
        crashes = told.crashes,
        error_code = COALESCE(told.error_code, jobs.error_code),
        error_message = COALESCE(told.error_message, jobs.error_message)
    FROM told
    WHERE jobs.id = ANY (ARRAY[told.id])
      AND jobs.state = 'pending'
      AND jobs.attempt < told.attempt
      AND told.state = 'pending'
      AND jobs.cancel_requested_at IS NULL
    RETURNING
        jobs.id, told.attempt, told.worker_id, told.outcome, told.error_code, told.error_message, told.started_at, told.finished_at
),
noted AS (
    INSERT INTO job_attempts (job_id, attempt, worker_id, outcome, error_code, error_message, started_at, finished_at)
    SELECT id, attempt, worker_id, outcome, error_code, error_message, started_at, finished_at
    FROM gone
    WHERE outcome IS NOT NULL
    UNION ALL
    SELECT id, attempt, worker_id, outcome, error_code, error_message, started_at, finished_at
    FROM kept
    WHERE outcome IS NOT NULL
    ON CONFLICT DO NOTHING
),
dependencies AS (
    INSERT INTO ended_dependencies (job_id, state)
    SELECT id, state
    FROM gone
    WHERE awaited
),
counted AS (
    INSERT INTO batch_changes (batch_id, succeeded, dead, cancelled, expired)
    SELECT
        batch_id, count(*) FILTER (WHERE state = 'succeeded'), count(*) FILTER (WHERE state = 'dead'),
        count(*) FILTER (WHERE state = 'cancelled'), count(*) FILTER (WHERE state = 'expired')
    FROM gone
    WHERE batch_id IS NOT NULL
    GROUP BY batch_id
)
SELECT id AS "id!: JobId", state AS "state!", awaited AS "awaited!", batch_id AS "batch_id?: BatchId" FROM gone
UNION ALL
SELECT id, 'pending', false, NULL FROM kept
