-- How often a job's process crashed: 1 makes it a suspect, which from then on runs alone; each crash alone adds one, and
-- the second of those makes it dead. Kept in the row, so that a Redis that is emptied forgets no suspect. Code from before
-- this column writes neither it nor the view.
ALTER TABLE jobs ADD COLUMN crashes smallint NOT NULL DEFAULT 0;
ALTER TABLE jobs_ended ADD COLUMN crashes smallint NOT NULL DEFAULT 0;

-- The view's columns were fixed when it was made. They are named now: a column that is added stands last in each table, and so
-- at different places in the two.
DROP VIEW jobs_all;
CREATE VIEW jobs_all AS
    SELECT
        id, owner_id, kind, queue, state, wait_reason, priority, payload, run_at, expires_at, timeout_ms, max_attempts,
        retry_base_ms, retry_max_ms, attempt, failures, snoozes, crashes, nonce, error_code, error_message, cancel_requested_at,
        unique_key, concurrency_key, tags, target, batch_id, request_id, traceparent, created_at,
        NULL::json AS result, NULL::text AS worker_id, NULL::timestamptz AS started_at, NULL::timestamptz AS finished_at
    FROM jobs
    UNION ALL
    SELECT
        id, owner_id, kind, queue, state, wait_reason, priority, payload, run_at, expires_at, timeout_ms, max_attempts,
        retry_base_ms, retry_max_ms, attempt, failures, snoozes, crashes, nonce, error_code, error_message, cancel_requested_at,
        unique_key, concurrency_key, tags, target, batch_id, request_id, traceparent, created_at,
        result, worker_id, started_at, finished_at
    FROM jobs_ended;
