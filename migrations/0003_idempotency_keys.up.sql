-- Answers to creations that carried an Idempotency-Key, so that a repeated request gets the first one's answer.
-- Written in the transaction of the work itself; pruned after 24 hours.
CREATE TABLE idempotency_keys (
    principal  uuid        NOT NULL,
    route      text        NOT NULL,
    key        text        NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    body_hash  bytea       NOT NULL CHECK (octet_length(body_hash) = 32),
    status     smallint    NOT NULL,
    location   text,
    body       bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (principal, route, key)
);

CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);
