-- Batches, and jobs that wait for others (docs/adr/0018). What a settling worker writes of an end it only inserts, so that it waits
-- for nobody; what follows from the end is done in transactions of its own.

-- Whether some job may wait for this one. The default is no rewrite of the table. Code from before this column writes nothing below:
-- the leader finds what ended so (jobs that wait are looked through every few seconds, batches every ten minutes).
ALTER TABLE jobs ADD COLUMN awaited boolean NOT NULL DEFAULT false;

-- Who still waits for whom. A row goes when the job that is waited for has succeeded, or the one that waits is over.
CREATE TABLE job_dependencies (
    job_id     uuid NOT NULL,
    depends_on uuid NOT NULL,
    PRIMARY KEY (depends_on, job_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX job_dependencies_job_id ON job_dependencies (job_id);

-- Awaited jobs that ended, written by the statement that ended them, until those who wait were dealt with. `deleted` is no state of a job.
CREATE TABLE ended_dependencies (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id uuid   NOT NULL,
    state  text   NOT NULL CHECK (state IN ('succeeded', 'dead', 'cancelled', 'expired', 'deleted'))
) WITH (autovacuum_vacuum_scale_factor = 0.02);

-- Jobs that wait no longer, until Redis has them.
CREATE TABLE released_jobs (
    job_id uuid PRIMARY KEY,
    queue  text NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02);

-- Jobs that are counted together. What `batch_changes` holds of a batch is not in its counts yet.
CREATE TABLE batches (
    id                uuid        PRIMARY KEY,
    owner_id          uuid        NOT NULL,
    name              text        CHECK (length(name) BETWEEN 1 AND 100),
    closed            boolean     NOT NULL,
    jobs_max          integer     NOT NULL,
    on_complete       json,                       -- a submit
    total             integer     NOT NULL DEFAULT 0,
    waiting           integer     NOT NULL DEFAULT 0,
    succeeded         integer     NOT NULL DEFAULT 0,
    dead              integer     NOT NULL DEFAULT 0,
    cancelled         integer     NOT NULL DEFAULT 0,
    expired           integer     NOT NULL DEFAULT 0,
    completion_job_id uuid,
    error_code        text,                       -- why no job came of `on_complete`
    error_message     text,
    created_at        timestamptz NOT NULL,
    completed_at      timestamptz
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX batches_owner_id ON batches (owner_id, id);
CREATE INDEX batches_to_complete ON batches (owner_id, id) WHERE completed_at IS NULL;

-- The jobs of a batch, live and ended.
CREATE TABLE batch_jobs (
    batch_id uuid NOT NULL,
    job_id   uuid NOT NULL,
    PRIMARY KEY (batch_id, job_id)
);

-- What became of jobs of a batch, to be added to its counts: a row per statement and batch, so that workers that end jobs of one batch
-- do not wait for each other.
CREATE TABLE batch_changes (
    id        bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch_id  uuid    NOT NULL,
    total     integer NOT NULL DEFAULT 0,
    waiting   integer NOT NULL DEFAULT 0,
    succeeded integer NOT NULL DEFAULT 0,
    dead      integer NOT NULL DEFAULT 0,
    cancelled integer NOT NULL DEFAULT 0,
    expired   integer NOT NULL DEFAULT 0
) WITH (autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX batch_changes_batch_id ON batch_changes (batch_id);
