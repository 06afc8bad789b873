ALTER TABLE queues DROP COLUMN created_by;
