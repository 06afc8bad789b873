DROP INDEX jobs_ended_owner_failures;
