DROP TABLE points_dead, point_hours, points, tracks_removed, tracks;
DROP FUNCTION points_add_month, points_drop_before, points_distance, tracks_note_removed;
