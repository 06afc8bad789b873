-- Jobs. Two tables, so that finalising never leaves dead index entries where leasing, listing and rebuilding look:
-- `jobs` holds what is still to do, `jobs_ended` what is over. Ids are UUIDv7 and sort by creation, so a range of ids
-- is a day, and retention drops whole days.

-- What is still to do. No index names state, attempt or times: retries and snoozes stay heap-only updates.
-- owner_id has no foreign key: the check would lock the owner's row once per insert.
CREATE TABLE jobs (
    id                  uuid        PRIMARY KEY,
    owner_id            uuid        NOT NULL,
    kind                text        NOT NULL,
    queue               text        NOT NULL,
    state               text        NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'waiting')),
    wait_reason         text,
    priority            smallint    NOT NULL CHECK (priority BETWEEN 0 AND 9),
    payload             json        NOT NULL,
    run_at              timestamptz NOT NULL,
    expires_at          timestamptz,
    timeout_ms          integer,
    max_attempts        integer     NOT NULL,
    retry_base_ms       integer     NOT NULL,
    retry_max_ms        integer     NOT NULL,
    attempt             integer     NOT NULL DEFAULT 0, -- the highest concluded attempt: the fence
    failures            integer     NOT NULL DEFAULT 0,
    snoozes             integer     NOT NULL DEFAULT 0,
    nonce               uuid,                           -- of the lease that wrote the last conclusion
    error_code          text,
    error_message       text,
    cancel_requested_at timestamptz,
    unique_key          text,
    concurrency_key     text,
    tags                text[]      NOT NULL DEFAULT '{}',
    target              json,
    batch_id            uuid,
    request_id          text,
    traceparent         text,
    created_at          timestamptz NOT NULL
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.2);

CREATE INDEX jobs_owner_id ON jobs (owner_id, id);
CREATE INDEX jobs_queue_id ON jobs (queue, id);

-- What is over: the columns of `jobs`, then how it ended.
CREATE TABLE jobs_ended (
    id                  uuid        NOT NULL,
    owner_id            uuid        NOT NULL,
    kind                text        NOT NULL,
    queue               text        NOT NULL,
    state               text        NOT NULL CHECK (state IN ('succeeded', 'dead', 'cancelled', 'expired')),
    wait_reason         text,
    priority            smallint    NOT NULL,
    payload             json        NOT NULL,
    run_at              timestamptz NOT NULL,
    expires_at          timestamptz,
    timeout_ms          integer,
    max_attempts        integer     NOT NULL,
    retry_base_ms       integer     NOT NULL,
    retry_max_ms        integer     NOT NULL,
    attempt             integer     NOT NULL,
    failures            integer     NOT NULL,
    snoozes             integer     NOT NULL,
    nonce               uuid,
    error_code          text,
    error_message       text,
    cancel_requested_at timestamptz,
    unique_key          text,
    concurrency_key     text,
    tags                text[]      NOT NULL,
    target              json,
    batch_id            uuid,
    request_id          text,
    traceparent         text,
    created_at          timestamptz NOT NULL,
    result              json,
    worker_id           text,
    started_at          timestamptz,
    finished_at         timestamptz NOT NULL,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);

CREATE INDEX jobs_ended_owner_id ON jobs_ended (owner_id, id);
CREATE INDEX jobs_ended_queue_state_id ON jobs_ended (queue, state, id);

-- The net under the daily partitions: a row of a day that has none yet is kept all the same.
CREATE TABLE jobs_ended_default PARTITION OF jobs_ended DEFAULT;

-- Every job, to do or over. The planner takes it apart: a key is looked up in both indexes, a page is merged from both.
CREATE VIEW jobs_all AS
    SELECT *, NULL::json AS result, NULL::text AS worker_id, NULL::timestamptz AS started_at, NULL::timestamptz AS finished_at
    FROM jobs
    UNION ALL
    SELECT * FROM jobs_ended;

-- The lowest UUIDv7 of an instant.
CREATE FUNCTION uuid_v7_floor(instant timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN rpad(lpad(to_hex(floor(extract(epoch FROM instant) * 1000)::bigint), 12, '0'), 32, '0')::uuid;

-- Makes the partition of one UTC day unless it exists; rows that the default partition caught meanwhile move into it.
CREATE FUNCTION jobs_ended_add_day(day date) RETURNS boolean
    LANGUAGE plpgsql AS $$
DECLARE
    partition_name text := 'jobs_ended_' || to_char(day, 'YYYYMMDD');
    low  uuid := uuid_v7_floor(day::timestamp AT TIME ZONE 'UTC');
    high uuid := uuid_v7_floor((day + 1)::timestamp AT TIME ZONE 'UTC');
BEGIN
    IF to_regclass(partition_name) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE jobs_ended INCLUDING ALL)', partition_name);
    EXECUTE format(
        'WITH moved AS (DELETE FROM jobs_ended_default WHERE id >= %L AND id < %L RETURNING *) INSERT INTO %I SELECT * FROM moved',
        low, high, partition_name);
    EXECUTE format('ALTER TABLE jobs_ended ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', partition_name, low, high);
    RETURN true;
END $$;

SELECT jobs_ended_add_day((now() AT TIME ZONE 'UTC')::date + ahead) FROM generate_series(0, 7) AS ahead;

-- Attempts that did not succeed; a success is told by the job's own row.
CREATE TABLE job_attempts (
    job_id        uuid        NOT NULL,
    attempt       integer     NOT NULL,
    worker_id     text,
    outcome       text        NOT NULL CHECK (outcome IN ('failed', 'timeout', 'panic', 'crashed', 'lost', 'cancelled')),
    error_code    text,
    error_message text,
    started_at    timestamptz,
    finished_at   timestamptz NOT NULL,
    PRIMARY KEY (job_id, attempt)
);

CREATE TABLE queues (
    name                  text        PRIMARY KEY,
    paused                boolean     NOT NULL DEFAULT false,
    remote                boolean     NOT NULL DEFAULT false,
    durability            text        NOT NULL DEFAULT 'postgres' CHECK (durability IN ('postgres', 'redis')),
    max_depth             integer,
    concurrency           integer,
    rate_limit            integer,
    rate_per_ms           integer,
    per_key_concurrency   integer,
    succeeded_retention_s integer,                            -- NULL: JOB_RETENTION_DAYS
    dead_retention_s      integer     NOT NULL DEFAULT 2592000, -- 30 days
    retry_max_attempts    integer     NOT NULL DEFAULT 4,
    retry_base_ms         integer     NOT NULL DEFAULT 1000,
    retry_max_ms          integer     NOT NULL DEFAULT 600000,
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now(),
    CHECK ((rate_limit IS NULL) = (rate_per_ms IS NULL))
);

INSERT INTO queues (name) VALUES ('default');

-- Keys that keep a second job of the same kind out until `expires_at`.
CREATE TABLE job_unique (
    kind       text        NOT NULL,
    key        text        NOT NULL,
    job_id     uuid        NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (kind, key)
);

CREATE INDEX job_unique_expires_at ON job_unique (expires_at);
