//! Every metric on one screen: who tells it, whether it is there from the start, its type, name, labels and meaning.
//! Labels are bounded: route templates, kinds, queues, codes and threads, never ids. The table of docs/guides/observability.md is made of this list.

pub use super::{
    metric::{Appears, Metric, Shape, Teller},
    recorder::{MetricsHandle, install, install_tally, keep_up},
};

macro_rules! metrics_list {
    ($($teller:ident $appears:ident $shape:ident $name:ident = $text:literal [$($label:ident),*] $meaning:literal;)*) => {
        $(#[doc = $meaning] pub const $name: &str = $text;)*

        /// All of them, in the order of this file.
        pub static METRICS: &[Metric] = &[$(Metric {
            name: $text,
            shape: metrics_list!(@shape $shape),
            teller: metrics_list!(@teller $teller),
            appears: metrics_list!(@appears $appears),
            labels: &[$(stringify!($label)),*],
            meaning: $meaning,
        },)*];
    };
    (@shape counter) => { Shape::Counter };
    (@shape gauge) => { Shape::Gauge };
    (@shape histogram) => { Shape::Histogram };
    (@teller api) => { Teller::Api };
    (@teller worker) => { Teller::Worker };
    (@teller both) => { Teller::Both };
    (@teller shared) => { Teller::Shared };
    (@appears always) => { Appears::Always };
    (@appears later) => { Appears::Later };
}

metrics_list! {
    // Requests.
    api  always gauge     APP_ACTIVE_CONNECTIONS = "app_active_connections" [worker] "Open connections.";
    both always counter   APP_MESSAGES = "app_messages_total" [] "Messages accepted: jobs, publications and points.";
    both later  counter   APP_ERRORS = "app_errors_total" [kind] "Problems that the API answered, by the problem's code; and panics of either program, as `panic`.";
    api  always histogram HTTP_DURATION = "http_server_request_duration_seconds" [route, method, status] "Time from request head to response head, by route template.";
    api  always gauge     HTTP_IN_FLIGHT = "http_server_active_requests" [worker] "Requests under way.";
    api  always gauge     HTTP_CONCURRENCY_LIMIT = "http_server_concurrency_limit" [worker] "Requests that may be in flight.";
    api  always counter   HTTP_SHED = "http_server_shed_total" [reason, class] "Requests refused before anything was done for them, by class of routes: in_flight; class for too many sign-ins; late if the connection had been put off and others come in time; waited if there was no place when the body came, or the turn. Without a class: bodies if too many, or too large, are on their way.";
    api  always histogram HTTP_SHED_SECONDS = "http_server_shed_seconds" [] "Time from a request's head to the answer that it is shed.";
    api  always counter   HTTP_BYTES_IN = "http_server_request_body_bytes_total" [] "Bytes of bodies that requests announced.";
    api  always counter   HTTP_BYTES_OUT = "http_server_response_body_bytes_total" [] "Bytes of bodies that were answered, compressed as they were.";
    api  later  counter   RATE_LIMITED = "rate_limited_total" [class] "Requests refused by a rate limit.";
    api  always gauge     RATE_LIMIT_LOCAL = "rate_limit_local" [] "1 while rate limits are counted in this process alone because Redis is away.";

    // Accounts.
    api  later  counter   LOGINS = "account_logins_total" [outcome] "Sign-ins.";
    api  always gauge     PASSWORD_HASHES = "account_password_hashes" [] "Password hashes being computed.";
    api  later  counter   REVOCATIONS = "account_revocations_total" [source] "Revocations heard, over Redis or by polling.";
    shared always gauge   SESSIONS = "account_sessions" [] "Sessions that can be refreshed; above 50,000 an estimate.";

    // Connections to PostgreSQL and Redis.
    both always gauge     BREAKER_STATE = "breaker_state" [target] "Circuit breakers of postgres, redis and the read replica: 0 closed, 1 half open, 2 open; of the API alone, workers leave them closed.";
    both always counter   BREAKER_OPENED = "breaker_opened_total" [target] "Times that a circuit breaker opened.";
    api  later  counter   DB_REPLICA_FALLBACKS = "db_replica_fallbacks_total" [reason] "Reads for the replica that the primary answered: away; not_found, since it may be behind; failed.";
    both always gauge     DB_POOL_SIZE = "db_pool_connections" [state] "PostgreSQL connections of this process: idle, used.";
    both always gauge     DB_POOL_MAX = "db_pool_max_connections" [] "PostgreSQL connections that this process may have.";
    both always histogram DB_ACQUIRE = "db_acquire_seconds" [] "Wait for a pooled PostgreSQL connection, tried once a second in each pool.";
    both always histogram REDIS_WAIT = "redis_wait_seconds" [] "Time of a PING behind all other commands of its connection, once a second on each.";

    // Jobs.
    both later  counter   JOB_SUBMITTED = "job_submitted_total" [queue] "Jobs accepted.";
    both later  counter   JOB_STARTED = "job_started_total" [queue, kind] "Attempts started.";
    both later  counter   JOB_FINISHED = "job_finished_total" [queue, kind, outcome] "Attempts concluded: done, retry, dead letters by their reason, and so on.";
    both later  histogram JOB_RUN = "job_run_seconds" [queue, kind] "Time an attempt ran.";
    both later  histogram JOB_PICKUP = "job_pickup_seconds" [queue] "Time from due to started.";
    worker always gauge   JOB_RUNNING = "job_running" [] "Jobs running in this worker.";
    worker always gauge   JOB_RESERVED = "job_reserved" [] "Jobs leased and not started in this worker.";
    both later  gauge     JOB_LAST_PROCESSED = "job_last_processed_timestamp_seconds" [] "When a job last finished in this process.";
    both later  histogram JOB_SETTLE = "job_settle_seconds" [] "Time of one settle batch in PostgreSQL.";
    worker later counter  JOB_RECONCILED = "job_reconciled_total" [repair] "Repairs by the reconciler.";
    both later  counter   JOB_LEASES_LOST = "job_leases_lost_total" [at] "Leases that expired or were refused.";
    shared later gauge    JOB_DEPTH = "job_queue_depth" [queue, state] "Jobs of a queue: ready, scheduled (retries among them), running.";
    shared later gauge    JOB_DEAD = "job_queue_dead" [queue] "Dead letters of a queue; stops at 10,000.";
    shared later gauge    JOB_READY_AGE = "job_queue_oldest_ready_age_seconds" [queue] "How long the job that has waited longest has been due; 0 while none waits.";
    shared later counter  JOB_QUEUE_IN = "job_queue_in_total" [queue] "Jobs that came to a queue, requeued ones among them; begins anew with Redis.";
    shared later counter  JOB_QUEUE_OUT = "job_queue_out_total" [queue] "Jobs that ended; begins anew with Redis.";
    shared later gauge    JOB_QUEUE_LAST_PROCESSED = "job_queue_last_processed_timestamp_seconds" [queue] "When a job of a queue last ended; 0 when none has.";
    shared later gauge    JOB_QUEUE_PAUSED = "job_queue_paused" [queue] "1 while leasing from a queue is stopped.";
    shared later gauge    JOB_QUEUE_STALLED = "job_queue_stalled" [queue] "1 while a queue has ready jobs, a worker has room and none is leased.";
    shared always gauge   JOB_WORKERS = "job_workers" [] "Workers that were heard of lately, remote ones among them.";
    shared always gauge   JOB_SLOTS = "job_worker_slots" [] "Jobs that all workers together may run at once.";
    shared always gauge   JOB_SLOTS_BUSY = "job_worker_slots_busy" [] "Of these, those that run one.";
    worker later counter  SCHEDULE_RUNS = "schedule_runs_total" [outcome] "Occurrences of schedules that were dealt with: submitted, skipped, refused, missed.";
    worker later histogram SCHEDULE_LATE = "schedule_late_seconds" [] "Time from an occurrence of a schedule to its submit.";
    worker later counter  WORKER_CHILDREN_REPLACED = "worker_children_replaced_total" [reason] "Children that made room for a fresh one: tasks, memory.";
    worker later counter  WORKER_CHILDREN_RESTARTED = "worker_children_restarted_total" [reason] "Children that ended by themselves, or were killed for a blocked job.";

    // Points.
    both later  counter   INGEST_ACCEPTED = "ingest_accepted_points_total" [to] "Points accepted, into Redis or straight into PostgreSQL.";
    both later  counter   INGEST_REJECTED = "ingest_rejected_points_total" [code] "Points refused when they were sent.";
    shared always gauge   INGEST_DEPTH = "ingest_depth_points" [] "Points that wait to be stored.";
    shared always gauge   INGEST_AGE = "ingest_oldest_age_seconds" [] "How long the points have waited that wait longest; 0 while none do.";
    both later  counter   INGEST_STORED = "ingest_stored_points_total" [outcome] "Points worked on: new, changed, unchanged, dead.";
    both later  histogram INGEST_BATCH = "ingest_batch_seconds" [] "Time of one batch of points in PostgreSQL.";
    worker later histogram INGEST_LAG = "ingest_lag_seconds" [] "Time from accepting points to their commit; of one entry of each batch.";
    worker always gauge   INGEST_BREAKER_OPEN = "ingest_breaker_open" [] "1 while points wait in Redis because PostgreSQL does not take them.";

    // Files.
    both later  counter   FILES_STORED = "files_stored_total" [by] "Files that are complete, by who wrote them (upload, job).";
    both always counter   FILES_WRITTEN_BYTES = "files_written_bytes_total" [] "Bytes written to the store of files.";
    both always counter   FILES_READ_BYTES = "files_read_bytes_total" [] "Bytes read from the store of files.";
    both always gauge     FILES_WRITING = "files_writing" [] "Files being written in this process.";
    both later  counter   FILES_REMOVED = "files_removed_total" [why] "Objects removed from the store: deleted, unfinished, orphaned.";
    worker always gauge   FILES_MISSING = "files_missing" [] "Files whose object is not in the store; told by the leader of the workers.";
    both later  counter   FILES_STORE_ERRORS = "files_store_errors_total" [operation] "Failures of the store of files.";
    api  later  gauge     FILES_FREE_BYTES = "files_store_free_bytes" [] "Room on the disk of the store of files, where that is a folder.";
    api  later  gauge     FILES_SIZE_BYTES = "files_store_size_bytes" [] "Size of that disk.";

    // Sockets.
    api  always gauge     WS_CONNECTIONS = "ws_connections" [worker] "Open sockets.";
    api  always gauge     WS_SUBSCRIPTIONS = "ws_subscriptions" [worker] "Subscriptions of open sockets.";
    api  later  counter   WS_RECOVERIES = "ws_recoveries_total" [recovered] "Subscriptions that asked for what they missed, by whether they got all of it.";
    api  later  counter   WS_REFUSED = "ws_refused_total" [reason] "Sockets refused before the upgrade.";
    api  later  counter   WS_CLOSED = "ws_closed_total" [code] "Sockets closed by us.";
    api  always counter   WS_COMMANDS = "ws_commands_total" [method] "Commands received over sockets.";
    api  always gauge     WS_OUTBOX_BYTES = "ws_outbox_bytes" [worker] "Bytes that wait to be written to sockets.";
    api  always gauge     WS_OUTBOX_MEMORY = "ws_outbox_memory_bytes" [worker] "Memory that these take: what waits for many sockets counts once.";
    api  later  counter   WS_ANSWERS_REFUSED = "ws_answers_refused_total" [] "Answers over sockets that were not sent, as too many waited to be read.";
    api  always histogram WS_FANOUT_LAG = "ws_fanout_lag_seconds" [] "Time from a publication to the thread that gives it to its sockets; of some publications.";
    api  always counter   WS_FRAMES_SENT = "ws_frames_sent_total" [] "Frames written to sockets.";
    api  always counter   WS_BYTES_IN = "ws_received_bytes_total" [] "Bytes read from sockets.";
    api  always counter   WS_BYTES_OUT = "ws_sent_bytes_total" [] "Bytes written to sockets.";

    // The servers, as one process at a time looks at them for all.
    shared always gauge   SERVER_UP = "server_up" [server] "1 if the server answered the last look: postgres, redis.";
    shared always gauge   PG_CONNECTIONS = "postgres_connections" [state] "Connections to the database, all clients': active, idle, idle_in_transaction, other.";
    shared always gauge   PG_MAX_CONNECTIONS = "postgres_max_connections" [] "Connections that the server takes.";
    shared always gauge   PG_LOCK_WAITS = "postgres_lock_waits" [] "Statements that wait for a lock.";
    shared always gauge   PG_LONGEST_TRANSACTION = "postgres_longest_transaction_seconds" [] "Age of the oldest transaction in the database.";
    shared always gauge   PG_DATABASE_BYTES = "postgres_database_bytes" [] "Size of the database.";
    shared always gauge   PG_REPLICAS = "postgres_replicas" [] "Standbys that stream from the server, as far as our role may see.";
    shared always gauge   PG_REPLICATION_LAG = "postgres_replication_lag_seconds" [] "How far the slowest standby is behind; 0 without one.";
    shared always gauge   REDIS_MEMORY = "redis_memory_used_bytes" [node] "Memory that Redis uses.";
    shared always gauge   REDIS_MEMORY_MAX = "redis_memory_max_bytes" [node] "maxmemory; 0 is no limit.";
    shared always gauge   REDIS_CLIENTS = "redis_clients" [node] "Connections to Redis, all clients'.";
    shared always gauge   REDIS_CLIENTS_MAX = "redis_max_clients" [node] "Connections that Redis takes.";
    shared always gauge   REDIS_SLOWLOG = "redis_slowlog_entries" [node] "Entries of the slow log, which forgets beyond its own length.";
    shared always counter REDIS_COMMANDS = "redis_commands_total" [node] "Commands that Redis ran.";
    shared always counter REDIS_EVICTED = "redis_evicted_keys_total" [node] "Keys that Redis gave up for want of memory: lost work.";
    shared always counter REDIS_REJECTED = "redis_rejected_connections_total" [node] "Connections refused beyond maxclients.";
    shared always gauge   REDIS_AOF_ON = "redis_aof_enabled" [node] "1 if Redis keeps an append-only file.";
    shared always gauge   REDIS_AOF_OK = "redis_aof_last_write_ok" [node] "1 if the last write of the append-only file succeeded.";
    shared always gauge   REDIS_MASTER = "redis_master" [node] "1 for a master, 0 for a replica.";

    // Processes.
    both later  counter   TRACES_SPANS = "traces_spans_total" [outcome] "Spans of traces: sent, or dropped because the collector did not take them.";
    both always gauge     BUILD = "millrace_build_info" [version, build] "Always 1.";
    both always histogram RUNTIME_LAG = "runtime_lag_seconds" [thread] "How late a timer of a thread fires: what everything else there waits.";
    both always gauge     PROCESS_RSS = "process_resident_memory_bytes" [] "Resident memory.";
    both always counter   PROCESS_CPU = "process_cpu_seconds_total" [] "CPU time used.";
    both always counter   PROCESS_THREAD_CPU = "process_thread_cpu_seconds_total" [thread] "CPU time used by threads of a name; those of no name of ours are other.";
    both always gauge     PROCESS_FDS = "process_open_fds" [] "Open file descriptors.";
    both always gauge     PROCESS_FDS_MAX = "process_max_fds" [] "File descriptors that the process may open.";
    both always gauge     PROCESS_START = "process_start_time_seconds" [] "When the process started.";
}
