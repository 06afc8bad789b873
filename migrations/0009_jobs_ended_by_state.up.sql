-- Everybody's dead, cancelled and expired jobs: an operator who lists one of these states without naming a queue would look at
-- all that ended. Partial, so that recording a success writes nothing to it.
CREATE INDEX jobs_ended_failures ON jobs_ended (state, id) WHERE state <> 'succeeded';
