DROP INDEX jobs_ended_dead;
