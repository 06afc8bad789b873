-- Which user's submit brought a queue into being, so that one user cannot use up all queues. NULL: an operator, or before
-- this column. Code from before it leaves it NULL.
ALTER TABLE queues ADD COLUMN created_by uuid;
CREATE INDEX queues_created_by ON queues (created_by) WHERE created_by IS NOT NULL;
