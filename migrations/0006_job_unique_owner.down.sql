DROP TABLE job_unique;
CREATE TABLE job_unique (
    kind       text        NOT NULL,
    key        text        NOT NULL,
    job_id     uuid        NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (kind, key)
);

CREATE INDEX job_unique_expires_at ON job_unique (expires_at);
