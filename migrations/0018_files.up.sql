-- Files: what callers uploaded and what jobs made. Here are their rows; their contents are objects in a store (a folder, or S3), which
-- are known by the row's id. A row is there before its object, and its object goes after it: whatever is left at a crash has a name here.

-- What this database's objects begin with, so that two databases that share a store by mistake do not take each other's for left behind.
CREATE TABLE file_store (
    is_only    boolean     PRIMARY KEY DEFAULT true CHECK (is_only),
    id         uuid        NOT NULL DEFAULT gen_random_uuid(),
    -- When store and table were last compared as a whole.
    scanned_at timestamptz NOT NULL DEFAULT now()
);

INSERT INTO file_store DEFAULT VALUES;

CREATE TABLE files (
    id            uuid        PRIMARY KEY,
    owner_id      uuid        NOT NULL REFERENCES users ON DELETE CASCADE,
    name          text        NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    content_type  text        NOT NULL CHECK (length(content_type) BETWEEN 1 AND 100),
    -- While it is written: what is reserved of its owner's quota, at least what was written.
    size_bytes    bigint      NOT NULL CHECK (size_bytes >= 0),
    sha256        bytea       CHECK (octet_length(sha256) = 32),
    -- The job that made it. No foreign key: it outlives the job.
    made_by       uuid,
    -- What S3 calls an upload in several parts, so that another process can abort it.
    upload_id     text,
    created_at    timestamptz NOT NULL,
    -- NULL: it is being written, or was when its writer died. Nobody sees it.
    stored_at     timestamptz,
    -- Since when its object is known not to be there.
    missing_since timestamptz,
    CHECK ((stored_at IS NULL) = (sha256 IS NULL))
);

CREATE INDEX files_owner_id ON files (owner_id, id);
CREATE INDEX files_unfinished ON files (created_at) WHERE stored_at IS NULL;
CREATE INDEX files_missing ON files (id) WHERE missing_since IS NOT NULL;
-- A job that runs again makes the same file, and not a second one.
CREATE UNIQUE INDEX files_made_by ON files (made_by, name) WHERE made_by IS NOT NULL AND stored_at IS NOT NULL;

-- What each user has, unfinished files among it: a quota that is asked of this row holds however many uploads run at once.
CREATE TABLE file_usage (
    owner_id   uuid   PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    n_files    bigint NOT NULL,
    size_bytes bigint NOT NULL
);

-- Objects whose row is gone, until they are gone too.
CREATE TABLE files_removed (
    file_id    uuid        PRIMARY KEY,
    upload_id  text,
    -- One that was not stored may still be being written: it is looked at again before it is forgotten.
    was_stored boolean     NOT NULL,
    removed_at timestamptz NOT NULL,
    -- When it is next looked at.
    due_at     timestamptz NOT NULL
);

CREATE INDEX files_removed_due_at ON files_removed (due_at);

-- However a row comes and goes, also with its owner.
CREATE FUNCTION files_account() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO file_usage (owner_id, n_files, size_bytes)
        VALUES (NEW.owner_id, 1, NEW.size_bytes)
        ON CONFLICT (owner_id) DO UPDATE
        SET n_files = file_usage.n_files + 1, size_bytes = file_usage.size_bytes + NEW.size_bytes;
    ELSIF TG_OP = 'UPDATE' THEN
        UPDATE file_usage
        SET size_bytes = size_bytes + NEW.size_bytes - OLD.size_bytes
        WHERE owner_id = NEW.owner_id;
    ELSE
        UPDATE file_usage
        SET n_files = n_files - 1, size_bytes = size_bytes - OLD.size_bytes
        WHERE owner_id = OLD.owner_id;
        INSERT INTO files_removed (file_id, upload_id, was_stored, removed_at, due_at)
        VALUES (OLD.id, OLD.upload_id, OLD.stored_at IS NOT NULL, now(), now())
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER files_account AFTER INSERT OR DELETE OR UPDATE OF size_bytes ON files
    FOR EACH ROW EXECUTE FUNCTION files_account();
