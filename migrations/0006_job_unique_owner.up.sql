-- Unique keys belong to the owner of the job: nobody meets, or learns of, another's. The table was never written before,
-- so it is made anew.
DROP TABLE job_unique;

-- Keys that keep a second job of the same owner and kind out until `expires_at`, by the database's clock. A key whose job
-- is gone is free. No foreign key to the job: it moves between tables.
CREATE TABLE job_unique (
    owner_id   uuid        NOT NULL,
    kind       text        NOT NULL,
    key        text        NOT NULL,
    job_id     uuid        NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (owner_id, kind, key)
);

CREATE INDEX job_unique_expires_at ON job_unique (expires_at);
