//! Every metric on one screen, and the recorder that renders them for Prometheus.
//! Labels are bounded: route templates, kinds, queues and codes, never ids.

use super::tally::Tally;
pub use metrics_exporter_prometheus::PrometheusHandle as MetricsHandle;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use std::{sync::OnceLock, time::Duration};
use tokio::time;

macro_rules! metrics_list {
    ($($shape:ident $name:ident = $text:literal, $meaning:literal;)*) => {
        $(#[doc = $meaning] pub const $name: &str = $text;)*

        fn describe() {
            $(metrics_list!(@describe $shape $text $meaning);)*
        }
    };
    (@describe counter $text:literal $meaning:literal) => { metrics::describe_counter!($text, $meaning) };
    (@describe gauge $text:literal $meaning:literal) => { metrics::describe_gauge!($text, $meaning) };
    (@describe histogram $text:literal $meaning:literal) => { metrics::describe_histogram!($text, $meaning) };
}

metrics_list! {
    gauge APP_ACTIVE_CONNECTIONS = "app_active_connections", "Open connections by worker thread.";
    counter APP_MESSAGES = "app_messages_total", "Messages accepted: jobs, publications and points.";
    counter APP_ERRORS = "app_errors_total", "Problems answered, by kind (the problem's code).";
    histogram HTTP_DURATION = "http_server_request_duration_seconds", "Time from request head to response head, by route, method and status.";
    gauge HTTP_IN_FLIGHT = "http_server_active_requests", "Requests in flight, by worker thread.";
    counter HTTP_SHED = "http_server_shed_total", "Requests refused before their body was read, by reason.";
    counter RATE_LIMITED = "rate_limited_total", "Requests refused by a rate limit, by class.";
    gauge RATE_LIMIT_LOCAL = "rate_limit_local", "1 while rate limits are counted in this process alone because Redis is away.";
    gauge DB_POOL_SIZE = "db_pool_connections", "PostgreSQL connections of this process, by state (idle, used).";
    counter LOGINS = "account_logins_total", "Sign-ins, by outcome.";
    gauge PASSWORD_HASHES = "account_password_hashes", "Password hashes being computed.";
    counter REVOCATIONS = "account_revocations_total", "Revocations heard, by source (redis, poll).";
    counter JOB_SUBMITTED = "job_submitted_total", "Jobs accepted, by queue.";
    counter JOB_STARTED = "job_started_total", "Attempts started, by queue and kind.";
    counter JOB_FINISHED = "job_finished_total", "Attempts concluded, by queue, kind and outcome.";
    histogram JOB_RUN = "job_run_seconds", "Time an attempt ran, by queue and kind.";
    histogram JOB_PICKUP = "job_pickup_seconds", "Time from due to started, by queue.";
    gauge JOB_RUNNING = "job_running", "Jobs running in this process.";
    gauge JOB_RESERVED = "job_reserved", "Jobs leased and not started in this process.";
    gauge JOB_LAST_PROCESSED = "job_last_processed_timestamp_seconds", "When a job last finished in this process.";
    histogram JOB_SETTLE = "job_settle_seconds", "Time of one settle batch in PostgreSQL.";
    gauge JOB_QUEUE_STALLED = "job_queue_stalled", "1 while a queue has ready jobs, a worker has room and none is leased, by queue.";
    counter JOB_RECONCILED = "job_reconciled_total", "Repairs by the reconciler, by repair.";
    counter JOB_LEASES_LOST = "job_leases_lost_total", "Leases that expired or were refused.";
    counter SCHEDULE_RUNS = "schedule_runs_total", "Occurrences of schedules that were dealt with, by outcome (submitted, skipped, refused, missed).";
    histogram SCHEDULE_LATE = "schedule_late_seconds", "Time from an occurrence of a schedule to its submit.";
    counter WORKER_CHILDREN_REPLACED = "worker_children_replaced_total", "Children that made room for a fresh one, by reason (tasks, memory).";
    counter WORKER_CHILDREN_RESTARTED = "worker_children_restarted_total", "Children that ended by themselves or were killed for a blocked job, by reason (ended, blocked).";
    counter INGEST_ACCEPTED = "ingest_accepted_points_total", "Points accepted, by where to (redis, postgres).";
    counter INGEST_REJECTED = "ingest_rejected_points_total", "Points refused when they were sent, by code.";
    gauge INGEST_DEPTH = "ingest_depth_points", "Points that wait to be stored.";
    counter INGEST_STORED = "ingest_stored_points_total", "Points worked on, by outcome (new, changed, unchanged, dead).";
    histogram INGEST_BATCH = "ingest_batch_seconds", "Time of one batch of points in PostgreSQL.";
    histogram INGEST_LAG = "ingest_lag_seconds", "Time from accepting points to their commit; of one entry of each batch.";
    gauge INGEST_BREAKER_OPEN = "ingest_breaker_open", "1 while points wait in Redis because PostgreSQL does not take them.";
    counter FILES_STORED = "files_stored_total", "Files that are complete, by who wrote them (upload, job).";
    counter FILES_WRITTEN_BYTES = "files_written_bytes_total", "Bytes written to the store of files.";
    counter FILES_READ_BYTES = "files_read_bytes_total", "Bytes read from the store of files.";
    gauge FILES_WRITING = "files_writing", "Files being written in this process.";
    counter FILES_REMOVED = "files_removed_total", "Objects removed from the store, by why (deleted, unfinished, orphaned).";
    gauge FILES_MISSING = "files_missing", "Files whose object is not in the store.";
    counter FILES_STORE_ERRORS = "files_store_errors_total", "Failures of the store of files, by operation.";
    gauge WS_CONNECTIONS = "ws_connections", "Open sockets, by worker thread.";
    gauge WS_SUBSCRIPTIONS = "ws_subscriptions", "Subscriptions of open sockets, by worker thread.";
    counter WS_RECOVERIES = "ws_recoveries_total", "Subscriptions that asked for what they missed, by whether they got all of it (yes, no).";
    counter WS_REFUSED = "ws_refused_total", "Sockets refused before the upgrade, by reason.";
    counter WS_CLOSED = "ws_closed_total", "Sockets closed by us, by code.";
    counter WS_COMMANDS = "ws_commands_total", "Commands received over sockets, by method.";
    gauge WS_OUTBOX_BYTES = "ws_outbox_bytes", "Bytes that wait to be written to sockets, by worker thread.";
    histogram WS_FANOUT_LAG = "ws_fanout_lag_seconds", "Time from a publication to the thread that gives it to its sockets; of some publications.";
    counter WS_FRAMES_SENT = "ws_frames_sent_total", "Frames written to sockets.";
    gauge PROCESS_RSS = "process_resident_memory_bytes", "Resident memory.";
    counter PROCESS_CPU = "process_cpu_seconds_total", "CPU time used.";
    gauge PROCESS_FDS = "process_open_fds", "Open file descriptors.";
    gauge PROCESS_START = "process_start_time_seconds", "When the process started.";
}

/// How often [`keep_up`] folds samples: a second's worth of requests is a few megabytes at most.
const UPKEEP_EVERY: Duration = Duration::from_secs(1);

/// Folds recorded samples into their histograms, for ever; spawn it once per process. The recorder keeps every sample
/// until then, and reading the metrics is no substitute: a process that nobody scrapes would grow with each request.
pub async fn keep_up(handle: MetricsHandle) {
    let mut ticks = time::interval(UPKEEP_EVERY);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}

/// Upper bounds of the histograms' buckets, in seconds.
pub(super) const BUCKETS: [f64; 15] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Installs the recorder of a process that may live for moments only; the first caller does it, later ones share it.
pub fn install_tally() -> Tally {
    static TALLY: OnceLock<Tally> = OnceLock::new();
    let install = || {
        let tally = Tally::install().expect("nothing else in this program installs a recorder");
        describe();
        tally
    };
    TALLY.get_or_init(install).clone()
}

/// Installs the recorder; the first caller of the process does it, later ones share the handle.
pub fn install() -> MetricsHandle {
    static HANDLE: OnceLock<MetricsHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let builder = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)
                .expect("the list of buckets is not empty");
            let handle = builder.install_recorder().expect("nothing else in this program installs a recorder");
            describe();
            handle
        })
        .clone()
}
