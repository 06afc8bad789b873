DROP INDEX jobs_ended_failures;
