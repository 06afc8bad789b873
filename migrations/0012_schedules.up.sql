-- Schedules: what is submitted again and again, by cron expression or period.

-- owner_id NULL: the platform's own. Exactly one of cron and every_ms says when; next_run_at is NULL while nothing is to come
-- (paused, or never again).
CREATE TABLE schedules (
    id          uuid        PRIMARY KEY,
    owner_id    uuid        REFERENCES users ON DELETE CASCADE,
    name        text        NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    kind        text        NOT NULL,
    queue       text        NOT NULL,
    payload     json        NOT NULL,
    job         json        NOT NULL,
    cron        text        CHECK (length(cron) <= 200),
    every_ms    bigint      CHECK (every_ms >= 1000),
    timezone    text        NOT NULL,
    overlap     text        NOT NULL CHECK (overlap IN ('allow', 'skip', 'cancel_old')),
    catch_up    boolean     NOT NULL,
    paused      boolean     NOT NULL,
    next_run_at timestamptz,
    last_run_at timestamptz,
    last_job_id uuid,
    error_code    text,
    error_message text,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    CHECK ((cron IS NULL) <> (every_ms IS NULL))
);

CREATE UNIQUE INDEX schedules_owner_name ON schedules (owner_id, name) NULLS NOT DISTINCT;
CREATE INDEX schedules_owner_id ON schedules (owner_id, id);
CREATE INDEX schedules_next_run_at ON schedules (next_run_at) WHERE next_run_at IS NOT NULL;

-- Each occurrence that was dealt with: the key keeps a second leader from dealing with it again, and the job tells whether the
-- last one still runs. job_id NULL: none was made of it.
CREATE TABLE schedule_runs (
    schedule_id uuid        NOT NULL REFERENCES schedules ON DELETE CASCADE,
    fire_at     timestamptz NOT NULL,
    job_id      uuid,
    PRIMARY KEY (schedule_id, fire_at)
);

CREATE INDEX schedule_runs_fire_at ON schedule_runs (fire_at);
