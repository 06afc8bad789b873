DROP TRIGGER files_refuse_deleted ON files;
DROP TRIGGER tracks_refuse_deleted ON tracks;
DROP TRIGGER endpoints_refuse_deleted ON endpoints;
DROP TRIGGER schedules_refuse_deleted ON schedules;
DROP FUNCTION users_refuse_deleted;
-- Without the column nobody would remove what is left of them.
DELETE FROM users WHERE deleted_at IS NOT NULL;
DROP INDEX users_deleted;
ALTER TABLE users DROP COLUMN deleted_at;
