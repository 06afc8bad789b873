-- Writes conclusions of jobs that have no row yet. Ends become rows of `jobs_ended`, whose key keeps a second end out; of
-- retries and snoozes nothing is kept but the attempt, since Redis holds the rest. An end is refused where its attempt, or a
-- later one, was concluded before. `OFFSET 0` keeps these look-ups by key: made to joins, they could read all of a table that was
-- empty when this was planned.
WITH told AS (
    SELECT *
    FROM UNNEST($1::uuid[], $2::int[], $3::uuid[], $4::text[], $5::int[], $6::int[], $7::smallint[], $8::text[], $9::text[],
                $10::text[], $11::text[], $12::text[], $13::timestamptz[], $14::timestamptz[],
                $15::uuid[], $16::text[], $17::text[], $18::smallint[], $19::text[], $20::timestamptz[], $21::timestamptz[],
                $22::int[], $23::int[], $24::int[], $25::int[], $26::text[], $27::text[], $28::text[], $29::timestamptz[])
        AS told (id, attempt, nonce, state, failures, snoozes, crashes, error_code, error_message,
                 outcome, result, worker_id, started_at, finished_at,
                 owner_id, kind, queue, priority, payload, run_at, expires_at,
                 timeout_ms, max_attempts, retry_base_ms, retry_max_ms, tags, request_id, traceparent, created_at)
),
open AS (
    SELECT told.*
    FROM told
    WHERE NOT EXISTS (
            SELECT
            FROM job_attempts
            WHERE job_id = told.id
              AND (job_attempts.attempt > told.attempt OR (job_attempts.attempt = told.attempt AND told.state <> 'pending'))
            OFFSET 0
        )
      AND NOT EXISTS (SELECT FROM jobs WHERE jobs.id = told.id OFFSET 0)
),
ended AS (
    INSERT INTO jobs_ended (
        id, owner_id, kind, queue, state, priority, payload, run_at, expires_at, timeout_ms, max_attempts,
        retry_base_ms, retry_max_ms, attempt, failures, snoozes, crashes, nonce, error_code, error_message,
        tags, request_id, traceparent, created_at, result, worker_id, started_at, finished_at)
    SELECT
        id, owner_id, kind, queue, state, priority, payload::json, run_at, expires_at, timeout_ms, max_attempts,
        retry_base_ms, retry_max_ms, attempt, failures, snoozes, crashes, nonce, error_code, error_message,
        string_to_array(tags, E'\x1f'), request_id, traceparent, created_at, result::json, worker_id, started_at, finished_at
    FROM open
    WHERE state <> 'pending'
    ON CONFLICT (id) DO NOTHING
    RETURNING id, state
),
noted AS (
    INSERT INTO job_attempts (job_id, attempt, worker_id, outcome, error_code, error_message, started_at, finished_at)
    SELECT id, attempt, worker_id, outcome, error_code, error_message, started_at, finished_at
    FROM open
    WHERE outcome IS NOT NULL
      AND (state = 'pending' OR id IN (SELECT ended.id FROM ended))
    ON CONFLICT DO NOTHING
)
SELECT id AS "id!: JobId", state AS "state!", false AS "awaited!", NULL::uuid AS "batch_id?: BatchId" FROM ended
UNION ALL
SELECT id, state, false, NULL FROM open WHERE state = 'pending'
