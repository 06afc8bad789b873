-- Accounts are deleted in two parts: at once for everybody, and then what they had, some rows at a time, until the row itself goes. In one
-- statement a user with millions of rows could not be deleted at all. Code from before this column deletes as it did, and takes an account that
-- is being removed for a disabled one.
ALTER TABLE users ADD COLUMN deleted_at timestamptz;

CREATE INDEX users_deleted ON users (id) WHERE deleted_at IS NOT NULL;

-- To the foreign keys such an owner is still there. Nothing is added to what is being removed: it is refused as if the row were gone.
CREATE FUNCTION users_refuse_deleted() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM users WHERE id = NEW.owner_id AND deleted_at IS NOT NULL) THEN
        RAISE foreign_key_violation
            USING MESSAGE = 'the owner is deleted', TABLE = TG_TABLE_NAME, CONSTRAINT = TG_TABLE_NAME || '_owner_id_fkey';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER schedules_refuse_deleted BEFORE INSERT ON schedules FOR EACH ROW EXECUTE FUNCTION users_refuse_deleted();
CREATE TRIGGER endpoints_refuse_deleted BEFORE INSERT ON endpoints FOR EACH ROW EXECUTE FUNCTION users_refuse_deleted();
CREATE TRIGGER tracks_refuse_deleted BEFORE INSERT ON tracks FOR EACH ROW EXECUTE FUNCTION users_refuse_deleted();
CREATE TRIGGER files_refuse_deleted BEFORE INSERT ON files FOR EACH ROW EXECUTE FUNCTION users_refuse_deleted();
