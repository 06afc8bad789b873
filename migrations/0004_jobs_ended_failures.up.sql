-- One owner's dead, cancelled and expired jobs: few among their succeeded ones, which a list of them would otherwise
-- all look at. Partial, so that recording a success writes nothing to it.
CREATE INDEX jobs_ended_owner_failures ON jobs_ended (owner_id, state, id) WHERE state <> 'succeeded';
