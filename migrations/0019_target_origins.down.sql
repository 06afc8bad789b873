DROP TRIGGER endpoints_note_move ON endpoints;
DROP FUNCTION endpoints_note_move;
ALTER TABLE endpoints DROP COLUMN has_moved;
ALTER TABLE batches DROP COLUMN completion_origin;
ALTER TABLE schedules DROP COLUMN target_origin;
