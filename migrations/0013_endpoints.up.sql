-- Where jobs are delivered over HTTP. The secret is kept as it is, since every delivery is signed with it; the one before it signs
-- too until `previous_until`, so that a receiver can change over.
CREATE TABLE endpoints (
    id              uuid        PRIMARY KEY,
    owner_id        uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name            text        NOT NULL,
    url             text        NOT NULL,
    headers         json        NOT NULL DEFAULT '{}',
    timeout_ms      integer     NOT NULL,
    state           text        NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'disabled')),
    secret          bytea       NOT NULL,
    previous_secret bytea,
    previous_until  timestamptz,
    created_at      timestamptz NOT NULL
);

CREATE INDEX endpoints_by_owner ON endpoints (owner_id, id DESC);
