-- Jobs that wait for a word of their receiver (state `waiting`, reason `callback`), and how fast an endpoint may be delivered to.

-- One row for each delivery that may be settled from outside. The token itself is nowhere but with the receiver. No foreign key: a
-- job's row moves when it ends, and a token without its job is found out when it is used.
CREATE TABLE callbacks (
    token_hash bytea       PRIMARY KEY,
    job_id     uuid        NOT NULL,
    attempt    integer     NOT NULL,
    started_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE INDEX callbacks_expires_at ON callbacks (expires_at);

-- Deliveries per second; NULL: as many as come.
ALTER TABLE endpoints ADD COLUMN max_rate double precision CHECK (max_rate > 0);
