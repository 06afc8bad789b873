DROP TABLE job_unique;
DROP TABLE queues;
DROP TABLE job_attempts;
DROP VIEW jobs_all;
DROP TABLE jobs_ended;
DROP FUNCTION jobs_ended_add_day;
DROP FUNCTION uuid_v7_floor;
DROP TABLE jobs;
