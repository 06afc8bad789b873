DROP VIEW jobs_all;
ALTER TABLE jobs DROP COLUMN crashes;
ALTER TABLE jobs_ended DROP COLUMN crashes;
CREATE VIEW jobs_all AS
    SELECT *, NULL::json AS result, NULL::text AS worker_id, NULL::timestamptz AS started_at, NULL::timestamptz AS finished_at
    FROM jobs
    UNION ALL
    SELECT * FROM jobs_ended;
