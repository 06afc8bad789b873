-- Jobs that wait for others would wait for ever: they run.
UPDATE jobs SET state = 'pending', wait_reason = NULL WHERE state = 'waiting' AND wait_reason = 'depends_on';

DROP TABLE batch_changes;
DROP TABLE batch_jobs;
DROP TABLE batches;
DROP TABLE released_jobs;
DROP TABLE ended_dependencies;
DROP TABLE job_dependencies;
ALTER TABLE jobs DROP COLUMN awaited;
