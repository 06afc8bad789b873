//! What the list of settings cannot say line by line: rules across settings, what `auto` comes to, what a reload brings in.

use super::{Auto, JwtAlgorithm, Problems, Settings};
use crate::{
    capacity::pools,
    jobs::names::{NAME_RULE, is_name},
    mail,
    outbound::guard::check_base,
    pg,
    redis::{Address, Trust},
    telemetry::traces,
};
use secrecy::ExposeSecret;
use std::{fmt::Display, ops::RangeInclusive, thread};
use tracing_subscriber::EnvFilter;

/// A `connect` command with an access token has to fit.
const FRAME_BYTES_LEAST: usize = 1 << 10;
/// What a request may need, and what the HTTP server takes at all with some room.
const HEAD_BYTES: RangeInclusive<usize> = 4 << 10..=64 << 10;
/// What actix itself lets in on each thread: more than a process may have files open, as a rule.
const CONNECTIONS_OF_WORKER: usize = 25_600;

impl Settings {
    /// Rules that span more than one setting.
    pub(super) fn check(&self, problems: &mut Problems) {
        self.check_counts(problems);
        if let Err(error) = EnvFilter::try_new(&self.log_level) {
            problems.add("LOG_LEVEL", self.log_level.clone(), format!("a level, or directives such as info,sqlx=warn ({error})"));
        }
        self.check_servers(problems);
        if self.redis_prefix.is_empty()
            || self.redis_prefix.len() > 32
            || !self.redis_prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        {
            problems.add("REDIS_PREFIX", self.redis_prefix.clone(), "1 to 32 letters, digits, -, _ or .");
        }
        if self.jwt_alg == JwtAlgorithm::Hs256 && self.jwt_secret.as_ref().is_none_or(|secret| secret.expose_secret().len() < 32) {
            problems.add("JWT_SECRET", "***", "at least 32 bytes when JWT_ALG is HS256");
        }
        if !self.profile.is_development() && self.jwt_secret.as_ref().is_some_and(|secret| secret.expose_secret().contains("development")) {
            problems.add("JWT_SECRET", "***", "a secret of your own outside development");
        }
        if self.channel_token_hmac_secret.as_ref().is_some_and(|secret| secret.expose_secret().len() < 32) {
            problems.add("CHANNEL_TOKEN_HMAC_SECRET", "***", "at least 32 bytes");
        }
        if self.channel_api_key.as_ref().is_some_and(|key| key.expose_secret().len() < 16) {
            problems.add("CHANNEL_API_KEY", "***", "at least 16 bytes");
        }
        if let Some(Err(allowed)) = self.smtp_url.as_ref().map(mail::check_url) {
            problems.add("SMTP_URL", "***", allowed);
        }
        if self.smtp_url.is_some() && !self.smtp_from.contains('@') {
            problems.add("SMTP_FROM", self.smtp_from.clone(), "an address, since SMTP_URL is set");
        }
        if let Some(Err(allowed)) = self.public_url.as_deref().map(check_base) {
            problems.add("PUBLIC_URL", self.public_url.clone().unwrap_or_default(), allowed);
        }
        if let Some(Err(allowed)) = self.ai_base_url.as_deref().map(check_base) {
            // A password may stand in it by mistake.
            problems.add("AI_BASE_URL", "***", allowed);
        }
        if let Some(Err(allowed)) = self.storage_s3_endpoint.as_deref().map(check_base) {
            // It may have a password in it.
            problems.add("STORAGE_S3_ENDPOINT", "***", allowed);
        }
        if let Some(Err(allowed)) = self.otel_exporter_otlp_endpoint.as_deref().map(check_base) {
            // It may have a password in it.
            problems.add("OTEL_EXPORTER_OTLP_ENDPOINT", "***", allowed);
        }
        let headers = self.otel_exporter_otlp_headers.as_ref().map(ExposeSecret::expose_secret);
        if headers.is_some_and(|headers| traces::export::headers(headers).is_err()) {
            problems.add("OTEL_EXPORTER_OTLP_HEADERS", "***", "headers as name=value, with commas between them");
        }
        if self.storage_s3_access_key_id.is_some() != self.storage_s3_secret_access_key.is_some() {
            problems.add("STORAGE_S3_SECRET_ACCESS_KEY", "***", "set together with STORAGE_S3_ACCESS_KEY_ID, or neither");
        }
        if self.file_unfinished_s <= self.upload_timeout_s {
            problems.add("FILE_UNFINISHED_S", self.file_unfinished_s.to_string(), "more than UPLOAD_TIMEOUT_S");
        }
        if self.ai_api_key.as_ref().is_some_and(|key| !key.expose_secret().bytes().all(|byte| byte.is_ascii_graphic())) {
            problems.add("AI_API_KEY", "***", "a key as it stands in a header: visible ASCII characters");
        }
        if self.ai_base_url.is_some() && self.ai_model.is_empty() {
            problems.add("AI_MODEL", "", "the name of a model, since AI_BASE_URL is set");
        }
        if self.realtime_insecure && !self.profile.is_development() {
            problems.add("REALTIME_INSECURE", "on", "off outside development");
        }
        if !self.worker_queues.iter().all(|name| is_name(name)) {
            problems.add("WORKER_QUEUES", self.worker_queues.join(","), format!("a comma-separated list; each name {NAME_RULE}"));
        }
        if self.worker_heartbeat_ms * 3 > self.worker_lease_ms {
            problems.add("WORKER_HEARTBEAT_MS", self.worker_heartbeat_ms.to_string(), "at most a third of WORKER_LEASE_MS");
        }
        if self.db_pool_min() > self.db_pool_max() {
            problems.add("DB_POOL_MIN", self.db_pool_min().to_string(), format!("at most DB_POOL_MAX ({})", self.db_pool_max()));
        }
        if self.shutdown_timeout_s <= self.drain_delay_s + self.ws_drain_s {
            problems.add("SHUTDOWN_TIMEOUT_S", self.shutdown_timeout_s.to_string(), "more than DRAIN_DELAY_S and WS_DRAIN_S together");
        }
        if self.ws_pong_s >= self.ws_ping_s {
            problems.add("WS_PONG_S", self.ws_pong_s.to_string(), "less than WS_PING_S");
        }
        if self.ws_frame_max_bytes.0 < FRAME_BYTES_LEAST || self.ws_outbox_bytes.0 < self.ws_frame_max_bytes.0 {
            problems.add("WS_FRAME_MAX_BYTES", self.ws_frame_max_bytes.0.to_string(), "at least 1KiB, and at most WS_OUTBOX_BYTES");
        }
        if !HEAD_BYTES.contains(&self.api_head_max_bytes.0) {
            problems.add("API_HEAD_MAX_BYTES", self.api_head_max_bytes.0.to_string(), "from 4KiB to 64KiB");
        }
        if self.bodies_max_bytes.0 < self.max_bulk_bytes.0 {
            problems.add("BODIES_MAX_BYTES", self.bodies_max_bytes.0.to_string(), "at least MAX_BULK_BYTES");
        }
        if self.max_payload_bytes.0 > self.max_body_bytes.0 || self.max_body_bytes.0 > self.max_bulk_bytes.0 {
            problems.add(
                "MAX_PAYLOAD_BYTES",
                self.max_payload_bytes.0.to_string(),
                "at most MAX_BODY_BYTES, and that at most MAX_BULK_BYTES",
            );
        }
    }

    /// Where both servers are. A certificate that is not there is better missed now than at the first connection.
    fn check_servers(&self, problems: &mut Problems) {
        let masked = |url: &str| if url.is_empty() { "" } else { "***" };
        let redis_url = self.redis_url.expose_secret();
        if let Err(allowed) = Address::parse(redis_url) {
            problems.add("REDIS_URL", masked(redis_url), allowed);
        }
        if let Some(Err(allowed)) = self.redis_ca_file.as_deref().map(Trust::read) {
            problems.add("REDIS_CA_FILE", self.redis_ca_file.iter().map(|path| path.display().to_string()).collect::<String>(), allowed);
        }
        let direct = self.database_direct_url.as_ref().map(|url| ("DATABASE_DIRECT_URL", url));
        let read = self.database_read_url.as_ref().map(|url| ("DATABASE_READ_URL", url));
        for (name, url) in [Some(("DATABASE_URL", &self.database_url)), direct, read].into_iter().flatten() {
            if let Err(allowed) = pg::check_url(url.expose_secret()) {
                problems.add(name, masked(url.expose_secret()), allowed);
            }
        }
    }

    fn check_counts(&self, problems: &mut Problems) {
        check_count("API_WORKERS", self.api_workers, 1..=1_024, problems);
        check_count("BLOCKING_THREADS", self.blocking_threads, 1..=512, problems);
        check_count("PASSWORD_HASHES_MAX", self.password_hashes_max, 1..=1_024, problems);
        check_count("WORKER_CHILDREN", self.worker_children, 1..=self.worker_concurrency, problems);
        check_count("DB_POOL_MIN", self.db_pool_min, 0..=1_000, problems);
        check_count("API_MAX_CONNECTIONS", self.api_max_connections, 1..=1_000_000, problems);
        check_count("DB_POOL_MAX", self.db_pool_max, 1..=1_000, problems);
    }

    /// What SIGHUP brings in: log level, limits and tokens' lifetimes. Keys are re-read beside it.
    pub(crate) fn take_reloadable(&mut self, fresh: &Self) {
        let Self {
            log_level,
            rate_limits,
            rate_limit_login,
            rate_limit_login_address,
            rate_limit_write,
            rate_limit_read,
            rate_limit_bulk,
            rate_limit_work,
            rate_limit_ingest,
            rate_limit_upload,
            registration,
            jwt_access_ttl_s,
            jwt_refresh_ttl_s,
            sessions_max,
            api_keys_max,
            ..
        } = fresh.clone();
        *self = Self {
            log_level,
            rate_limits,
            rate_limit_login,
            rate_limit_login_address,
            rate_limit_write,
            rate_limit_read,
            rate_limit_bulk,
            rate_limit_work,
            rate_limit_ingest,
            rate_limit_upload,
            registration,
            jwt_access_ttl_s,
            jwt_refresh_ttl_s,
            sessions_max,
            api_keys_max,
            ..self.clone()
        };
    }

    pub fn api_workers(&self) -> usize {
        self.api_workers.unwrap_or_else(cores).clamp(1, 1_024)
    }

    /// HTTP connections of one worker thread: as many on each, and all together no fewer than were set.
    pub fn connections_per_worker(&self) -> usize {
        match self.api_max_connections {
            Auto::Auto => CONNECTIONS_OF_WORKER,
            Auto::Set(connections) => connections.div_ceil(self.api_workers()),
        }
    }

    /// The largest body that any route takes: a file in its form.
    pub fn largest_body_bytes(&self) -> u64 {
        const FORM_BYTES: u64 = 64 << 10;
        let most = self.max_upload_bytes.0.max(self.max_bulk_bytes.0).max(self.max_body_bytes.0);
        u64::try_from(most).map_or(u64::MAX, |most| most.saturating_add(FORM_BYTES))
    }

    pub fn blocking_threads(&self) -> usize {
        self.blocking_threads.unwrap_or_else(|| cores() + 4).clamp(1, 512).min(if self.blocking_threads == Auto::Auto { 32 } else { 512 })
    }

    pub fn password_hashes_max(&self) -> usize {
        self.password_hashes_max.unwrap_or_else(|| cores() / 2).max(1)
    }

    pub fn worker_children(&self) -> usize {
        self.worker_children.unwrap_or_else(|| cores().min(4)).clamp(1, self.worker_concurrency)
    }

    pub fn db_pool_min(&self) -> u32 {
        let of_rule = || pools::least(self.workers_u32()).min(self.db_pool_max());
        self.db_pool_min.unwrap_or_else(of_rule).min(1_000)
    }

    pub fn db_pool_max(&self) -> u32 {
        self.db_pool_max.unwrap_or_else(|| pools::most(self.profile, self.workers_u32())).clamp(1, 1_000)
    }

    /// The same of a worker with all its children.
    pub fn db_pool_max_of_worker(&self) -> u32 {
        self.db_pool_max.unwrap_or_else(|| pools::most_of_worker(self.profile, self.n_children())).clamp(1, 1_000)
    }

    /// A worker's children for jobs, without those for suspects.
    pub fn n_children(&self) -> u32 {
        u32::try_from(self.worker_children()).unwrap_or(u32::MAX >> 4)
    }

    /// Keeps a `DB_POOL_MAX` of `auto` within this process's share of a server that takes so many connections. The same of a worker is
    /// what this leaves when called with [`Self::db_pool_max_of_worker`] as `wanted`.
    pub fn fit_pool(&mut self, wanted: u32, server_max_connections: u32) {
        if self.db_pool_max != Auto::Auto {
            return;
        }
        let most = wanted.min(pools::share(server_max_connections, self.db_processes));
        self.db_pool_max = Auto::Set(most);
        if let Auto::Set(least) = self.db_pool_min {
            self.db_pool_min = Auto::Set(least.min(most));
        }
    }

    fn workers_u32(&self) -> u32 {
        u32::try_from(self.api_workers()).expect("workers are at most 1024")
    }
}

fn check_count<T: PartialOrd + Display>(name: &str, count: Auto<T>, allowed: RangeInclusive<T>, problems: &mut Problems) {
    if let Auto::Set(count) = count
        && !allowed.contains(&count)
    {
        problems.add(name, count.to_string(), format!("auto, or {} to {}", allowed.start(), allowed.end()));
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
