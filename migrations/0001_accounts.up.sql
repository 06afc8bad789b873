-- Accounts: who may do what, and what proves it. Nothing here holds a usable secret: passwords are argon2id hashes, API
-- keys and reset tokens SHA-256 of 256 random bits, and refresh tokens are only counted (their MAC is recomputed).

CREATE TABLE users (
    id            uuid        PRIMARY KEY,
    email         text        NOT NULL CHECK (length(email) BETWEEN 3 AND 254),
    display_name  text        CHECK (length(display_name) BETWEEN 1 AND 100),
    password_hash text        NOT NULL,
    role          text        NOT NULL CHECK (role IN ('user', 'operator', 'admin')),
    disabled      boolean     NOT NULL DEFAULT false,
    -- Access tokens carry it as `ver`; raising it ends all that were issued before.
    token_version integer     NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL
);

CREATE UNIQUE INDEX users_email ON users (lower(email));

-- The rule that one admin must stay reads exactly these.
CREATE INDEX users_admins ON users (id) WHERE role = 'admin' AND NOT disabled;

-- One sign-in each. Its refresh tokens are one family: `generation` is the one that is good now.
CREATE TABLE sessions (
    id                uuid        PRIMARY KEY,
    user_id           uuid        NOT NULL REFERENCES users ON DELETE CASCADE,
    generation        integer     NOT NULL DEFAULT 1,
    rotated_at        timestamptz NOT NULL,
    nonce             bytea       NOT NULL CHECK (octet_length(nonce) = 32),
    user_agent        text        CHECK (length(user_agent) <= 256),
    address           inet,
    created_at        timestamptz NOT NULL,
    last_used_at      timestamptz NOT NULL,
    -- When its last access token ends: a revocation need not be remembered for longer.
    access_expires_at timestamptz NOT NULL,
    expires_at        timestamptz NOT NULL,
    revoked_at        timestamptz
);

CREATE INDEX sessions_of_user ON sessions (user_id, id);
CREATE INDEX sessions_expires_at ON sessions (expires_at);
CREATE INDEX sessions_revoked_at ON sessions (revoked_at) WHERE revoked_at IS NOT NULL;

CREATE TABLE api_keys (
    id           uuid        PRIMARY KEY,
    user_id      uuid        NOT NULL REFERENCES users ON DELETE CASCADE,
    name         text        NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    prefix       text        NOT NULL,
    secret_hash  bytea       NOT NULL CHECK (octet_length(secret_hash) = 32),
    scopes       text[]      NOT NULL CHECK (cardinality(scopes) > 0),
    expires_at   timestamptz,
    last_used_at timestamptz,
    created_at   timestamptz NOT NULL,
    revoked_at   timestamptz
);

CREATE INDEX api_keys_of_user ON api_keys (user_id, id);

-- What every process must refuse although its signature or cache says yes. Times are the database's own, so that processes
-- whose clocks differ agree on which rows are new.
CREATE TABLE revocations (
    id          bigint      PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    kind        text        NOT NULL CHECK (kind IN ('session', 'api_key', 'user')),
    subject     uuid        NOT NULL,
    -- Of a user: tokens with a lower `ver` are refused.
    min_version integer     CHECK ((min_version IS NOT NULL) = (kind = 'user')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL
);

CREATE INDEX revocations_created_at ON revocations (created_at);
CREATE INDEX revocations_expires_at ON revocations (expires_at);

CREATE TABLE password_resets (
    id          uuid        PRIMARY KEY,
    user_id     uuid        NOT NULL REFERENCES users ON DELETE CASCADE,
    secret_hash bytea       NOT NULL CHECK (octet_length(secret_hash) = 32),
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL
);

CREATE INDEX password_resets_of_user ON password_resets (user_id);

-- Who did what to whom. No foreign keys: an entry outlives the account it speaks of.
CREATE TABLE audit_log (
    id           uuid        PRIMARY KEY,
    actor_id     uuid,
    action       text        NOT NULL,
    subject_kind text        NOT NULL,
    subject_id   uuid,
    detail       json        NOT NULL DEFAULT '{}',
    request_id   text,
    address      inet,
    created_at   timestamptz NOT NULL
);
