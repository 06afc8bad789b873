//! Every setting on one screen: variable, type, default, range. The only list; `.env.example` is tested against it.

use super::{
    Profile,
    setting::settings,
    values::{
        Auto, Bytes, ClientAddressHeader, ConcurrencyMode, DiskBytes, Exposure, JwtAlgorithm, LogFormat, Origins, Rate, Registration,
        StorageUrl,
    },
};
use crate::telemetry::traces::Sampler;
use ipnet::IpNet;
use secrecy::SecretString;
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

settings! {
    /// Named set of defaults: development, staging, production, high-traffic or maximum.
    APP_PROFILE profile: Profile = "development";
    /// TOML file of settings by their lower-case names, between profile and environment; read again on SIGHUP.
    CONFIG_FILE config_file: Option<PathBuf> = "";

    // The API's server.
    /// Address the API listens on.
    API_HOST api_host: IpAddr = "127.0.0.1";
    /// Port the API listens on; 0 takes a free one.
    API_PORT api_port: u16 = "8000";
    /// Worker threads of the API; auto = cores.
    API_WORKERS api_workers: Auto<usize> = "auto";
    /// HTTP connections that are open at once, per process; more wait in the backlog. Sockets do not count. auto = 25,600 × workers.
    API_MAX_CONNECTIONS api_max_connections: Auto<usize> = "auto";
    /// Connections that wait to be accepted.
    API_BACKLOG api_backlog: u32 = "2048" in 1..=65_535;
    /// Seconds an idle connection is kept.
    API_KEEP_ALIVE_S api_keep_alive_s: u64 = "65" in 1..=3_600;
    /// Seconds a client has to send the head of a request, and its body (which also has three quarters of REQUEST_TIMEOUT_MS at most).
    API_CLIENT_TIMEOUT_S api_client_timeout_s: u64 = "10" in 1..=600;
    /// Bytes of a request's head, from 4KiB to 64KiB; longer ones are answered with 431.
    API_HEAD_MAX_BYTES api_head_max_bytes: Bytes = "32KiB";
    /// Seconds a client may take nothing of its answer before its connection is ended.
    API_SEND_TIMEOUT_S api_send_timeout_s: u64 = "60" in 1..=3_600;
    /// Bytes of answers that clients have not taken, per process; above that, who has more than 64 KiB of them waiting has 5 s to take all.
    API_UNSENT_MAX_BYTES api_unsent_max_bytes: Bytes = "256MiB";
    /// Requests in flight per worker; more get 503 at once.
    API_CONCURRENCY_LIMIT api_concurrency_limit: usize = "1000" in 1..=100_000;
    /// Whether that limit is fixed, or lowered while requests take long: fixed or adaptive.
    API_CONCURRENCY_MODE api_concurrency_mode: ConcurrencyMode = "fixed";
    /// Requests that may wait with `Prefer: wait`, or for jobs to lease, per process. The last quarter is for users who have less than a quarter.
    WAIT_MAX wait_max: usize = "1000" in 0..=100_000;
    /// Threads for password hashing and other blocking work, per process; auto = min(32, cores + 4).
    BLOCKING_THREADS blocking_threads: Auto<usize> = "auto";
    /// Milliseconds a request may take.
    REQUEST_TIMEOUT_MS request_timeout_ms: u64 = "10000" in 100..=600_000;
    /// Largest body of an ordinary request.
    MAX_BODY_BYTES max_body_bytes: Bytes = "1MiB";
    /// Largest body of a bulk request.
    MAX_BULK_BYTES max_bulk_bytes: Bytes = "16MiB";
    /// Bytes of bodies above 16 KiB, and of those on their way (4 KiB at least), that the process holds at once; more get 503.
    BODIES_MAX_BYTES bodies_max_bytes: Bytes = "64MiB";
    /// Largest payload or result of one job.
    MAX_PAYLOAD_BYTES max_payload_bytes: Bytes = "256KiB";
    /// Proxies that are believed when they say in CLIENT_ADDRESS_HEADER who calls.
    TRUSTED_PROXIES trusted_proxies: Vec<IpNet> = "";
    /// The one header that the client's address is read from: x-forwarded-for or forwarded. The proxies must write it themselves.
    CLIENT_ADDRESS_HEADER client_address_header: ClientAddressHeader = "x-forwarded-for";
    /// Web origins that may call from a browser.
    CORS_ORIGINS cors_origins: Origins = "";
    /// Who may read /docs and the OpenAPI document: public, operator or off.
    DOCS docs: Exposure = "operator";
    /// Who may read /metrics on the API's port: public, operator or off.
    METRICS metrics: Exposure = "operator";
    /// Own address for /metrics, besides the API's port; empty = none.
    METRICS_ADDR metrics_addr: Option<SocketAddr> = "";
    /// Seconds between looks at queues, PostgreSQL and Redis, by one API process at a time; what it sees is on the /metrics of all.
    METRICS_LOOK_S metrics_look_s: u64 = "10" in 1..=300;

    // PostgreSQL.
    /// PostgreSQL as a URL.
    DATABASE_URL database_url: SecretString = "";
    /// The same database past any pooler, for migrations and advisory locks; empty = DATABASE_URL.
    DATABASE_DIRECT_URL database_direct_url: Option<SecretString> = "";
    /// A replica of it for lists and stats, which are a moment old there; the primary answers what it does not; empty = DATABASE_URL.
    DATABASE_READ_URL database_read_url: Option<SecretString> = "";
    /// Connections kept open per process, and opened before it is ready; auto = 2 × workers. Those of jobs open theirs when they must.
    DB_POOL_MIN db_pool_min: Auto<u32> = "auto";
    /// Most connections per process, a worker's children among them; auto = 10 × workers and at least 24, 20 × in the profile maximum, of a worker as many for each child, and at most the process's share of the server's.
    DB_POOL_MAX db_pool_max: Auto<u32> = "auto";
    /// Processes that share the server's max_connections, of which 20 are left to others: APIs and workers, on all machines.
    DB_PROCESSES db_processes: u32 = "3" in 1..=10_000;
    /// Milliseconds a caller waits for a pooled connection.
    DB_ACQUIRE_TIMEOUT_MS db_acquire_timeout_ms: u64 = "1000" in 10..=60_000;
    /// Milliseconds one statement may take.
    DB_STATEMENT_TIMEOUT_MS db_statement_timeout_ms: u64 = "5000" in 10..=600_000;
    /// Milliseconds a statement may wait for a lock.
    DB_LOCK_TIMEOUT_MS db_lock_timeout_ms: u64 = "2000" in 10..=600_000;

    // Redis.
    /// Redis as a URL: redis, rediss or redis+unix; redis+sentinel://host,host/master or redis+cluster://host,host for several servers.
    REDIS_URL redis_url: SecretString = "";
    /// Authorities, in PEM, that rediss:// believes and no others; empty = those of the machine.
    REDIS_CA_FILE redis_ca_file: Option<PathBuf> = "";
    /// Most connections of one process; below 2 API_WORKERS + 6 the worker threads share theirs.
    REDIS_MAX_CONNECTIONS redis_max_connections: usize = "50" in 4..=10_000;
    /// Milliseconds a caller waits for Redis to answer.
    REDIS_ACQUIRE_TIMEOUT_MS redis_acquire_timeout_ms: u64 = "500" in 10..=60_000;
    /// First part of every key.
    REDIS_PREFIX redis_prefix: String = "mr";

    // Accounts.
    /// Signature of access tokens: EdDSA or HS256.
    JWT_ALG jwt_alg: JwtAlgorithm = "EdDSA";
    /// Folder of the signing keys, for EdDSA.
    JWT_KEYS_DIR jwt_keys_dir: PathBuf = ".data/keys";
    /// Shared secret for HS256, at least 32 bytes.
    JWT_SECRET jwt_secret: Option<SecretString> = "";
    /// `iss` of our tokens.
    JWT_ISSUER jwt_issuer: String = "millrace";
    /// `aud` of our tokens.
    JWT_AUDIENCE jwt_audience: String = "millrace";
    /// Seconds an access token lives.
    JWT_ACCESS_TTL_S jwt_access_ttl_s: u64 = "900" in 5..=86_400;
    /// Seconds a session lives without being refreshed.
    JWT_REFRESH_TTL_S jwt_refresh_ttl_s: u64 = "2592000" in 60..=31_536_000;
    /// Verified access tokens and API keys kept in memory.
    TOKEN_CACHE token_cache: usize = "10000" in 0..=10_000_000;
    /// Whether strangers may make accounts: open or closed.
    REGISTRATION registration: Registration = "closed";
    /// Sessions one user may have; the oldest goes when it is passed.
    SESSIONS_MAX sessions_max: u32 = "100" in 1..=10_000;
    /// API keys one user may have.
    API_KEYS_MAX api_keys_max: u32 = "100" in 1..=10_000;
    /// Password hashes computed at once; auto = half of the cores, at least 1. Each takes 19 MiB.
    PASSWORD_HASHES_MAX password_hashes_max: Auto<usize> = "auto";
    /// Password hashes that may wait for their turn; more get 503.
    PASSWORD_QUEUE_MAX password_queue_max: usize = "64" in 0..=10_000;
    /// Milliseconds between looks for revocations, in case the news did not come over Redis.
    REVOCATION_POLL_MS revocation_poll_ms: u64 = "5000" in 100..=60_000;

    /// Password of the account that `millrace-api admin create` makes.
    ADMIN_PASSWORD admin_password: Option<SecretString> = "";

    // Limits.
    /// Whether rate limits are applied.
    RATE_LIMITS rate_limits: bool = "on";
    /// Callers whose rate is remembered per process; of more, the least recent start with a fresh slice.
    RATE_LIMIT_CALLERS rate_limit_callers: usize = "100000" in 1..=10_000_000;
    /// Sign-ins per account, and API keys that there are not per address.
    RATE_LIMIT_LOGIN rate_limit_login: Rate = "10/m";
    /// Sign-ins and registrations per address.
    RATE_LIMIT_LOGIN_ADDRESS rate_limit_login_address: Rate = "30/m";
    /// Writing requests per caller.
    RATE_LIMIT_WRITE rate_limit_write: Rate = "600/m";
    /// Reading requests per caller.
    RATE_LIMIT_READ rate_limit_read: Rate = "3000/m";
    /// Bulk requests per caller.
    RATE_LIMIT_BULK rate_limit_bulk: Rate = "120/m";
    /// Requests of remote workers per caller.
    RATE_LIMIT_WORK rate_limit_work: Rate = "60000/m";
    /// Uploads of files per caller.
    RATE_LIMIT_UPLOAD rate_limit_upload: Rate = "600/m";
    /// Requests that send points, per caller.
    RATE_LIMIT_INGEST rate_limit_ingest: Rate = "6000/m";

    // Jobs.
    /// Queues a worker consumes; empty = all.
    WORKER_QUEUES worker_queues: Vec<String> = "";
    /// Child processes of a worker.
    WORKER_CHILDREN worker_children: Auto<usize> = "auto";
    /// Child processes for jobs whose process crashed, one each and beside the others; started when there are such jobs.
    WORKER_QUARANTINE_CHILDREN worker_quarantine_children: usize = "2" in 1..=64;
    /// Jobs that run at once in one worker instance, over all children.
    WORKER_CONCURRENCY worker_concurrency: usize = "8" in 1..=10_000;
    /// Jobs leased at most, as a multiple of the concurrency.
    WORKER_PREFETCH_MULTIPLIER worker_prefetch_multiplier: usize = "4" in 1..=1_000;
    /// Jobs after which a child is replaced by a fresh one, whether they succeeded or not; 0 = never.
    WORKER_MAX_TASKS_PER_CHILD worker_max_tasks_per_child: u64 = "1000" in 0..=1_000_000_000;
    /// Resident memory in KiB above which a child is replaced by a fresh one; 0 = no limit.
    WORKER_MAX_MEMORY_PER_CHILD_KB worker_max_memory_per_child_kb: u64 = "0" in 0..=1_000_000_000;
    /// Seconds an attempt may take before its handler is asked to stop; 0 = no limit.
    WORKER_SOFT_TIME_LIMIT_S worker_soft_time_limit_s: u64 = "0" in 0..=604_800;
    /// Seconds an attempt may take before it is stopped; 0 = no limit.
    WORKER_TIME_LIMIT_S worker_time_limit_s: u64 = "0" in 0..=604_800;
    /// Seconds running jobs get to finish when the worker stops.
    WORKER_GRACE_S worker_grace_s: u64 = "20" in 0..=3_600;
    /// Milliseconds a lease lasts without a heartbeat.
    WORKER_LEASE_MS worker_lease_ms: u64 = "30000" in 500..=600_000;
    /// Milliseconds between heartbeats; at most a third of the lease.
    WORKER_HEARTBEAT_MS worker_heartbeat_ms: u64 = "10000" in 100..=200_000;
    /// Milliseconds between polls when nothing rings.
    WORKER_POLL_MS worker_poll_ms: u64 = "1000" in 10..=60_000;
    /// Outcomes settled in one batch.
    WORKER_SETTLE_BATCH worker_settle_batch: usize = "256" in 1..=1_000;
    /// Milliseconds between sweeps for due jobs and expired leases.
    WORKER_SWEEP_MS worker_sweep_ms: u64 = "100" in 10..=10_000;
    /// Seconds that a queue may have ready jobs, a worker with room and none leased before an alarm is raised; 0 = no alarm.
    WORKER_WATCHDOG_S worker_watchdog_s: u64 = "30" in 0..=86_400;
    /// Milliseconds between reconciler passes over recent rows.
    WORKER_RECONCILE_MS worker_reconcile_ms: u64 = "5000" in 100..=600_000;
    /// Submits that wait to be written together, per process; more get 503.
    SUBMIT_QUEUE_MAX submit_queue_max: usize = "10000" in 1..=1_000_000;
    /// Submits written by one statement.
    SUBMIT_BATCH_MAX submit_batch_max: usize = "1000" in 1..=5_000;
    /// Queues there may be; a submit that would make another is refused.
    QUEUES_MAX queues_max: usize = "1000" in 1..=100_000;
    /// Queues that one user who is no operator may bring into being.
    QUEUES_PER_USER_MAX queues_per_user_max: usize = "50" in 0..=100_000;
    /// Schedules there may be.
    SCHEDULES_MAX schedules_max: usize = "10000" in 1..=1_000_000;
    /// Schedules that one user who is no operator may have.
    SCHEDULES_PER_USER_MAX schedules_per_user_max: usize = "100" in 0..=1_000_000;
    /// How late an occurrence may fire, in seconds, where the schedule has no `catch_up`: how long the leader may be away without any being left out.
    SCHEDULE_LATE_MAX_S schedule_late_max_s: u32 = "60" in 1..=86_400;
    /// Jobs that one job may wait for (`depends_on`).
    JOB_DEPENDENCIES_MAX job_dependencies_max: usize = "20" in 0..=100;
    /// Jobs that one batch may have; of batches that are made from then on.
    BATCH_JOBS_MAX batch_jobs_max: usize = "100000" in 1..=10_000_000;
    /// Batches that are not complete, of one user who is no operator.
    BATCHES_PER_USER_MAX batches_per_user_max: usize = "1000" in 0..=1_000_000;
    /// Address of the worker's health and metrics; none = not served.
    WORKER_METRICS_ADDR worker_metrics_addr: Option<SocketAddr> = "127.0.0.1:9101";
    /// Days that rows of succeeded, cancelled and expired jobs are kept.
    JOB_RETENTION_DAYS job_retention_days: u32 = "7" in 1..=3_650;

    // Points.
    /// Streams in Redis that points wait in, each for its share of the tracks. What is left of more is stored when there are fewer.
    INGEST_SHARDS ingest_shards: u16 = "4" in 1..=64;
    /// Points that may wait to be stored; beyond it they get 503, and from three quarters on those who sent more than a sixteenth.
    INGEST_MAX_DEPTH ingest_max_depth: u64 = "5000000" in 1..=1_000_000_000;
    /// Whether a worker stores points; its child for maintenance does.
    WORKER_INGEST worker_ingest: bool = "on";
    /// Points stored by one transaction.
    INGEST_BATCH_MAX ingest_batch_max: usize = "5000" in 1..=20_000;
    /// Milliseconds that a batch may be gathered.
    INGEST_BATCH_MS ingest_batch_ms: u64 = "50" in 0..=1_000;
    /// Milliseconds after which what a worker took and did not store is another's.
    INGEST_CLAIM_MS ingest_claim_ms: u64 = "30000" in 100..=3_600_000;
    /// Points that an hour of a track may have; what would change one that has them is a dead letter, or refused.
    POINTS_PER_HOUR_MAX points_per_hour_max: u32 = "500000" in 1..=1_000_000;
    /// Requests with `durability=postgres` that are stored at once, per process, a quarter of them one user's; more wait shortly, then get 503.
    POINT_COMMITS_MAX point_commits_max: usize = "32" in 1..=10_000;
    /// Stats of points that are read at once, per process, a quarter of them one user's; more wait shortly, then get 503.
    POINT_STATS_MAX point_stats_max: usize = "4" in 1..=1_000;
    /// Months that points and their stats are kept; 0 = for ever.
    POINT_RETENTION_MONTHS point_retention_months: u32 = "0" in 0..=1_200;
    /// Tracks that one user may have.
    TRACKS_PER_USER_MAX tracks_per_user_max: u32 = "100000" in 0..=10_000_000;
    /// Dead letters of points that are kept of one user, the newest; 0 = any number.
    DEAD_POINTS_PER_USER_MAX dead_points_per_user_max: u32 = "1000000" in 0..=1_000_000_000;

    // Files.
    /// Where the contents of files are: file:// and a folder, or s3:// and a bucket, with a prefix if wanted. API and workers need the same.
    STORAGE_URL storage_url: StorageUrl = "file://.data/files";
    /// Address of an S3-compatible store, such as `https://s3.example.org`; empty = Amazon's.
    STORAGE_S3_ENDPOINT storage_s3_endpoint: Option<String> = "";
    /// Region of the bucket.
    STORAGE_S3_REGION storage_s3_region: String = "us-east-1";
    /// Access key of the bucket; empty = the machine's own role.
    STORAGE_S3_ACCESS_KEY_ID storage_s3_access_key_id: Option<SecretString> = "";
    /// Secret that belongs to the access key.
    STORAGE_S3_SECRET_ACCESS_KEY storage_s3_secret_access_key: Option<SecretString> = "";
    /// Largest file.
    MAX_UPLOAD_BYTES max_upload_bytes: Bytes = "100MiB";
    /// Seconds an upload may take.
    UPLOAD_TIMEOUT_S upload_timeout_s: u64 = "300" in 1..=86_400;
    /// Uploads at once, per process, a quarter of them one user's; more wait shortly, then get 503. Each holds 64 KiB, with S3 5 MiB.
    UPLOADS_MAX uploads_max: usize = "32" in 1..=10_000;
    /// Downloads at once, per process, a quarter of them one user's; more get 503. Each holds 64 KiB.
    DOWNLOADS_MAX downloads_max: usize = "256" in 1..=100_000;
    /// Seconds that a reader may leave a download where it is.
    DOWNLOAD_STALL_S download_stall_s: u64 = "60" in 1..=3_600;
    /// Bytes that the files of one user may have.
    FILE_QUOTA_BYTES file_quota_bytes: DiskBytes = "10GiB";
    /// Files that one user may have.
    FILES_PER_USER_MAX files_per_user_max: u32 = "10000" in 0..=10_000_000;
    /// Seconds after which a file that is still being written is given up for lost, and removed.
    FILE_UNFINISHED_S file_unfinished_s: u64 = "3600" in 1..=604_800;
    /// Hours between comparisons of the whole store with the table; 0 = none.
    FILE_SCAN_HOURS file_scan_hours: u32 = "24" in 0..=8_760;
    /// Seconds for which an object that no file names is left alone.
    FILE_ORPHAN_S file_orphan_s: u64 = "86400" in 0..=31_536_000;
    /// Largest image that `files.inspect` reads.
    IMAGE_MAX_BYTES image_max_bytes: Bytes = "32MiB";
    /// Memory that one image may take when it is unpacked; one at a time is, in each worker process.
    IMAGE_MAX_MEMORY_BYTES image_max_memory_bytes: Bytes = "256MiB";
    /// Longer side of a thumbnail, in pixels.
    THUMBNAIL_SIDE thumbnail_side: u32 = "256" in 16..=2_048;

    // Mail.
    /// The mail server: smtps://user:password@host, or smtp://host:587?tls=required; empty = mail is neither sent nor taken.
    SMTP_URL smtp_url: Option<SecretString> = "";
    /// Sender of every mail, as in: Example <no-reply@example.org>.
    SMTP_FROM smtp_from: String = "";
    /// Page where a new password is set; mails put the token at its end. Empty = they show the token alone.
    PASSWORD_RESET_URL password_reset_url: Option<String> = "";

    // Language models.
    /// Base of an OpenAI-compatible API, such as `https://api.openai.com/v1`; it may be on a private network. Empty = no `ai.complete`.
    AI_BASE_URL ai_base_url: Option<String> = "";
    /// Key that is sent there as a bearer token; empty = none is sent.
    AI_API_KEY ai_api_key: Option<SecretString> = "";
    /// Models that jobs may ask, with commas between; the first one where a job names none.
    AI_MODEL ai_model: Vec<String> = "";
    /// Milliseconds that a completion may take, its last token included, unless the job has a `timeout_ms`.
    AI_TIMEOUT_MS ai_timeout_ms: u64 = "5000" in 100..=600_000;
    /// Most tokens of one completion; jobs may ask for fewer.
    AI_MAX_TOKENS ai_max_tokens: u32 = "1024" in 1..=1_000_000;
    /// Longest prompt, all of its messages together.
    AI_PROMPT_MAX_BYTES ai_prompt_max_bytes: Bytes = "64KiB";
    /// Bytes of an answer that are read; one that is longer is given up.
    AI_ANSWER_MAX_BYTES ai_answer_max_bytes: Bytes = "4MiB";

    // Delivery over HTTP.
    /// Where the API is reached from outside, such as `https://api.example.org`: receivers are told to call back there. Empty = they get the path alone.
    PUBLIC_URL public_url: Option<String> = "";
    /// Networks that jobs may be delivered to although they are not public.
    OUTBOUND_ALLOW outbound_allow: Vec<IpNet> = "";
    /// Milliseconds that a receiver which does not answer is left alone, at first.
    OUTBOUND_BREAKER_MS outbound_breaker_ms: u64 = "30000" in 10..=600_000;
    /// Endpoints that one user may have.
    ENDPOINTS_PER_USER_MAX endpoints_per_user_max: u32 = "100" in 0..=100_000;

    // Channels.
    /// Whether sockets may connect without a token; channels that anyone may use are then open to them.
    WS_ANONYMOUS ws_anonymous: bool = "off";
    /// Asks for no token and allows everything; refused outside development.
    REALTIME_INSECURE realtime_insecure: bool = "off";
    /// Secret of tokens that another backend signs (HS256, HS384 or HS512; claims as Centrifugo's), at least 32 bytes.
    CHANNEL_TOKEN_HMAC_SECRET channel_token_hmac_secret: Option<SecretString> = "";
    /// Key of another backend for the server API (`POST /api/<method>`), at least 16 bytes: it may do everything on every channel.
    CHANNEL_API_KEY channel_api_key: Option<SecretString> = "";
    /// Seconds that a channel's position is remembered after its last use; the longest that its history may be kept.
    CHANNEL_LAYER_GROUP_EXPIRY channel_layer_group_expiry: u64 = "86400" in 60..=31_536_000;
    /// Days that publications of persisted channels are kept in PostgreSQL; whole months go.
    CHANNEL_HISTORY_RETENTION_DAYS channel_history_retention_days: u32 = "365" in 1..=3_650;
    /// Seconds that a user's server-side subscriptions are remembered without a connection.
    CHANNEL_SESSION_TTL channel_session_ttl: u64 = "86400" in 1..=31_536_000;

    // Sockets.
    /// Sockets that one process keeps open; more get 503.
    WS_MAX_CONNECTIONS ws_max_connections: usize = "20000" in 0..=1_000_000;
    /// Sockets that one user may have, over all processes; 0 = no limit.
    WS_MAX_CONNECTIONS_PER_USER ws_max_connections_per_user: usize = "0" in 0..=1_000_000;
    /// Sockets that one process lets in per second; more get 503; 0 = no limit.
    WS_CONNECTS_PER_S ws_connects_per_s: u32 = "0" in 0..=1_000_000;
    /// Channels that one socket may be subscribed to.
    WS_CHANNELS_PER_CLIENT ws_channels_per_client: usize = "128" in 1..=10_000;
    /// Largest message that a client may send.
    WS_FRAME_MAX_BYTES ws_frame_max_bytes: Bytes = "64KiB";
    /// Commands that one socket may send per second, pings among them; 0 = no limit.
    WS_COMMANDS_PER_S ws_commands_per_s: u32 = "1000" in 0..=1_000_000;
    /// Bytes that wait to be sent to one socket; a reader that is further behind is closed with 3008.
    WS_OUTBOX_BYTES ws_outbox_bytes: Bytes = "1MiB";
    /// Memory that all of these take, per process; each thread has its part, and at least 8 MiB. Past it answers are refused (100), and who does not read is closed with 3008. The last quarter is for users who have less than a quarter.
    WS_OUTBOXES_MAX_BYTES ws_outboxes_max_bytes: Bytes = "256MiB";
    /// Messages that wait to be sent to one socket; a reader that is further behind is closed with 3008.
    CHANNEL_LAYER_CAPACITY channel_layer_capacity: usize = "1000" in 1..=1_000_000;
    /// Seconds between pings.
    WS_PING_S ws_ping_s: u64 = "25" in 1..=3_600;
    /// Seconds that a client has to answer a ping.
    WS_PONG_S ws_pong_s: u64 = "8" in 1..=3_600;
    /// Seconds after which a channel is looked at again, in case a publication was lost on its way from Redis.
    WS_POSITION_CHECK_S ws_position_check_s: u64 = "40" in 1..=3_600;
    /// Seconds after which those who are present are refreshed; who is not refreshed for 60 is gone.
    WS_PRESENCE_REFRESH_S ws_presence_refresh_s: u64 = "25" in 1..=25;
    /// Seconds that a client has to say who it is.
    WS_CONNECT_TIMEOUT_S ws_connect_timeout_s: u64 = "10" in 1..=600;
    /// Seconds past the end of a token that a client has to bring a fresh one.
    WS_EXPIRY_GRACE_S ws_expiry_grace_s: u64 = "25" in 0..=3_600;
    /// Seconds over which sockets are closed when the process stops.
    WS_DRAIN_S ws_drain_s: u64 = "10" in 0..=600;
    /// Web origins whose pages may open sockets, besides the API's own; empty = CORS_ORIGINS.
    WS_ORIGINS ws_origins: Origins = "";

    // Running.
    /// Milliseconds that PostgreSQL, its replica and Redis may take to answer a probe of the API; when three in a row were not answered, what needs the server fails at once.
    HEALTH_PROBE_TIMEOUT_MS health_probe_timeout_ms: u64 = "1000" in 100..=60_000;
    /// Seconds between saying not ready and stopping to accept.
    DRAIN_DELAY_S drain_delay_s: u64 = "5" in 0..=600;
    /// Seconds the whole shutdown may take.
    SHUTDOWN_TIMEOUT_S shutdown_timeout_s: u64 = "30" in 1..=3_600;
    /// Collector of traces, OTLP over HTTP in JSON, such as `http://127.0.0.1:4318`; empty = no traces.
    OTEL_EXPORTER_OTLP_ENDPOINT otel_exporter_otlp_endpoint: Option<String> = "";
    /// Headers for it: name=value, with commas; values may be percent-encoded.
    OTEL_EXPORTER_OTLP_HEADERS otel_exporter_otlp_headers: Option<SecretString> = "";
    /// What the process is called in traces; empty = millrace-api or millrace-jobs.
    OTEL_SERVICE_NAME otel_service_name: Option<String> = "";
    /// Which traces are kept: always_on, always_off, traceidratio, or parentbased_ before one of these.
    OTEL_TRACES_SAMPLER otel_traces_sampler: Sampler = "parentbased_always_on";
    /// Share of traces that are kept, 0 to 1, where the sampler goes by it.
    OTEL_TRACES_SAMPLER_ARG otel_traces_sampler_arg: f64 = "1" in 0.0..=1.0;
    /// Whether callers decide by `traceparent` if their trace is kept: only where no stranger can send it. Off: its ids are kept, and the sampler decides as if they had said nothing.
    TRACEPARENT_TRUSTED traceparent_trusted: bool = "off";
    /// Log filter: a level, or directives such as info,sqlx=warn.
    LOG_LEVEL log_level: String = "info";
    /// json or pretty.
    LOG_FORMAT log_format: LogFormat = "json";
}
