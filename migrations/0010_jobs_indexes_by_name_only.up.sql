-- An index (queue, id) also answers `id = …`, by reading all of itself. While a queue is empty that looks no dearer than the
-- primary key, and a plan made then is kept: with 100,000 jobs in the table, each look-up by id then read 100,000 entries.
-- The columns are never NULL. The condition only says which questions an index is for: those that name an owner or a queue.
-- Builds indexes under a lock; submits and conclusions wait for it.
DROP INDEX jobs_owner_id;
DROP INDEX jobs_queue_id;
DROP INDEX jobs_ended_owner_id;
DROP INDEX jobs_ended_queue_state_id;
CREATE INDEX jobs_owner_id ON jobs (owner_id, id) WHERE owner_id IS NOT NULL;
CREATE INDEX jobs_queue_id ON jobs (queue, id) WHERE queue IS NOT NULL;
CREATE INDEX jobs_ended_owner_id ON jobs_ended (owner_id, id) WHERE owner_id IS NOT NULL;
CREATE INDEX jobs_ended_queue_state_id ON jobs_ended (queue, state, id) WHERE queue IS NOT NULL;
