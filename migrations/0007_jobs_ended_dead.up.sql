-- Dead letters of a queue by error: groups are found by jumping from code to code, and one group is paged through without
-- a look at the others. Partial, so that recording a success writes nothing to it.
CREATE INDEX jobs_ended_dead ON jobs_ended (queue, error_code, id) WHERE state = 'dead';
