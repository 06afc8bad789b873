DROP INDEX jobs_owner_id;
DROP INDEX jobs_queue_id;
DROP INDEX jobs_ended_owner_id;
DROP INDEX jobs_ended_queue_state_id;
CREATE INDEX jobs_owner_id ON jobs (owner_id, id);
CREATE INDEX jobs_queue_id ON jobs (queue, id);
CREATE INDEX jobs_ended_owner_id ON jobs_ended (owner_id, id);
CREATE INDEX jobs_ended_queue_state_id ON jobs_ended (queue, state, id);
