//! PostgreSQL: the pool with its deadlines, and the migrations built into the binary.

mod by_values;
mod migrate;
mod replica;
mod store;

use crate::{
    Code, Error, Result,
    breaker::Miss,
    capacity::pools::{self, OfApi, OfThreads},
    config::{Auto, Settings},
    telemetry::{
        metrics::{
            PG_CONNECTIONS, PG_DATABASE_BYTES, PG_LOCK_WAITS, PG_LONGEST_TRANSACTION, PG_MAX_CONNECTIONS, PG_REPLICAS, PG_REPLICATION_LAG,
        },
        page::Page,
    },
};
pub(crate) use by_values::ByValues;
use futures_util::future::try_join_all;
pub use migrate::{Applied, MIGRATIONS, migrate, pending_migrations};
pub use replica::Replica;
use secrecy::ExposeSecret;
use sqlx::{
    Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{fs, str::FromStr, time::Duration};
use tokio::sync::Mutex;
use url::Url;

/// A pooled connection that was used so lately is handed out untested.
pub const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// Every statement of ours has an index to go by. Statistics gathered while a queue was empty would have it searched from end
/// to end when it is long, once for each key asked for; and what compiling a plan costs, a short one never earns back.
const BY_INDEX: [(&str, &str); 2] = [("enable_seqscan", "off"), ("jit", "off")];

/// Parameters of a URL that name files.
const CERTIFICATE_FILES: [&str; 6] = ["sslrootcert", "ssl-root-cert", "ssl-ca", "sslcert", "ssl-cert", "sslkey"];

/// All that a process may have, in one pool.
pub fn open_pool(settings: &Settings) -> Result<PgPool> {
    open(settings, settings.db_pool_min(), settings.db_pool_max())
}

/// The part of an API process's connections that is no thread's.
pub fn open_process_pool(settings: &Settings, n_threads: usize) -> Result<PgPool> {
    let (min, of_api) = dealt(settings, n_threads);
    open(settings, min.min(of_api.process), of_api.process)
}

/// The part of one thread; `None` where the threads have one pool together.
pub fn open_thread_pool(settings: &Settings, n_threads: usize) -> Result<Option<PgPool>> {
    match dealt(settings, n_threads) {
        (min, OfApi { threads: OfThreads::Each(max), .. }) => open(settings, min.min(max), max).map(Some),
        (_, OfApi { threads: OfThreads::Together(_), .. }) => Ok(None),
    }
}

/// What the threads have together; `None` where each has a pool of its own.
pub fn open_pool_of_threads(settings: &Settings, n_threads: usize) -> Result<Option<PgPool>> {
    match dealt(settings, n_threads).1.threads {
        OfThreads::Together(max) => open(settings, settings.db_pool_min().min(max), max).map(Some),
        OfThreads::Each(_) => Ok(None),
    }
}

/// What each pool of an API process keeps, and how many each may have.
fn dealt(settings: &Settings, n_threads: usize) -> (u32, OfApi) {
    let n_threads = u32::try_from(n_threads).expect("workers are at most 1024");
    (settings.db_pool_min().div_ceil(n_threads), pools::of_api(settings.db_pool_max(), n_threads))
}

/// A pool that has no connection until one is needed, and `max` at most.
pub fn open_spare_pool(settings: &Settings, max: u32) -> Result<PgPool> {
    open(settings, 0, max)
}

/// The same for jobs, which have time: they wait as long as the statement that another of them may have before theirs, instead of failing.
pub fn open_pool_of_handlers(settings: &Settings, max: u32) -> Result<PgPool> {
    let patience = settings.db_acquire_timeout_ms.max(settings.db_statement_timeout_ms);
    open_with(settings, settings.database_url.expose_secret(), pool_options(0, max).acquire_timeout(Duration::from_millis(patience)))
}

fn open(settings: &Settings, min: u32, max: u32) -> Result<PgPool> {
    open_at(settings, settings.database_url.expose_secret(), min, max)
}

fn open_at(settings: &Settings, url: &str, min: u32, max: u32) -> Result<PgPool> {
    open_with(settings, url, pool_options(min, max).acquire_timeout(Duration::from_millis(settings.db_acquire_timeout_ms)))
}

fn open_with(settings: &Settings, url: &str, options: PgPoolOptions) -> Result<PgPool> {
    Ok(options.connect_lazy_with(connect_options(settings, url)?.options(BY_INDEX)))
}

fn pool_options(min: u32, max: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .min_connections(min)
        .max_connections(max)
        // A fresh connection costs a fork in the server: keep those we have, and trust them.
        .idle_timeout(Duration::from_mins(10))
        .test_before_acquire(false)
        // But after a pause the server may have been restarted, and the first callers would pay for it.
        .before_acquire(|connection, standing| {
            Box::pin(async move { if standing.idle_for > TRUSTED_FOR { connection.ping().await.map(|()| true) } else { Ok(true) } })
        })
}

/// Opens what a pool keeps before anybody waits for it, within the time that callers would.
pub(crate) async fn fill(pool: &PgPool) -> Result<()> {
    let kept = pool.options().get_min_connections();
    // Held until all are there, or the first would be taken again and again.
    drop(try_join_all((0..kept).map(|_| pool.acquire())).await?);
    Ok(())
}

/// A connection of its own for statements that take arrays of keys. Each is planned once, for arrays of any length, and looks
/// each key up in the index whatever the statistics say.
pub(crate) async fn connect_by_index(settings: &Settings) -> sqlx::Result<PgConnection> {
    let options =
        connect_options(settings, settings.database_url.expose_secret()).map_err(|error| sqlx::Error::Configuration(error.into()))?;
    let options = options.options(BY_INDEX).options([
        ("plan_cache_mode", "force_generic_plan"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
    ]);
    let patience = Duration::from_millis(settings.db_acquire_timeout_ms);
    tokio::time::timeout(patience, PgConnection::connect_with(&options)).await.map_err(|_| sqlx::Error::PoolTimedOut)?
}

/// Options of a connection that stands outside the pool: migrations, advisory locks, behind PgBouncer.
pub fn direct_options(settings: &Settings) -> Result<PgConnectOptions> {
    let url = settings.database_direct_url.as_ref().unwrap_or(&settings.database_url);
    connect_options(settings, url.expose_secret())
}

/// Whether connections can be opened by `url`. `Err` says what is allowed, without any of the URL's secrets.
pub(crate) fn check_url(url: &str) -> std::result::Result<(), String> {
    let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "postgres" | "postgresql"));
    let Some(parsed) = parsed.filter(|_| PgConnectOptions::from_str(url).is_ok()) else {
        return Err("a URL such as postgres://user:password@host:5432/database?sslmode=verify-full".to_owned());
    };
    for (name, value) in parsed.query_pairs().filter(|(name, _)| CERTIFICATE_FILES.contains(&&**name)) {
        if let Err(error) = fs::metadata(&*value) {
            return Err(format!("a {name} that is there ({value}: {error})"));
        }
    }
    Ok(())
}

fn connect_options(settings: &Settings, url: &str) -> Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str(url).map_err(Error::internal)?;
    Ok(options.application_name("millrace").options([
        ("statement_timeout", settings.db_statement_timeout_ms.to_string()),
        ("lock_timeout", settings.db_lock_timeout_ms.to_string()),
        ("idle_in_transaction_session_timeout", "30000".to_owned()),
        ("timezone", "UTC".to_owned()),
    ]))
}

/// What `doctor` wants to know of the server.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerFacts {
    pub version: i32,
    pub max_connections: i32,
    pub synchronous_commit: String,
    pub clock_ahead_s: f64,
}

/// Asks on a connection of its own, for whoever wants to know why: a pool only says that it waited. Tells where the server is as well,
/// without user and password.
pub async fn ask_directly(settings: &Settings) -> Result<(String, Result<()>)> {
    let options = connect_options(settings, settings.database_url.expose_secret())?;
    let place = format!("{}:{}", options.get_host(), options.get_port());
    let patience = Duration::from_millis(settings.db_acquire_timeout_ms);
    let connected = tokio::time::timeout(patience, PgConnection::connect_with(&options)).await;
    Ok((place, connected.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map(drop).map_err(Error::from)))
}

/// What is answered while the server is away.
pub fn away() -> Error {
    Error::new(Code::DatabaseUnavailable, "The database cannot be reached at the moment.").retry_after(Duration::from_secs(1))
}

/// Asks the server whether it is there, on a connection of its own: the pool may have none to spare, and waits for a server that refuses.
#[derive(Debug)]
pub struct Probe {
    options: PgConnectOptions,
    /// Taken out while it is asked, so that one that does not answer in time is not asked again.
    connection: Mutex<Option<PgConnection>>,
}

impl Probe {
    pub fn new(settings: &Settings) -> Result<Self> {
        Self::at(settings, settings.database_url.expose_secret())
    }

    fn at(settings: &Settings, url: &str) -> Result<Self> {
        // Whoever asks has a deadline of its own: a statement that the server ends would look like a refusal.
        let options = connect_options(settings, url)?.options([("statement_timeout", "0")]);
        Ok(Self { options, connection: Mutex::default() })
    }

    pub async fn ask(&self) -> Result<(), Miss> {
        let kept = self.connection.lock().await.take();
        let mut connection = match kept {
            Some(connection) => connection,
            None => PgConnection::connect_with(&self.options).await.map_err(miss)?,
        };
        store::ping(&mut connection).await?;
        *self.connection.lock().await = Some(connection);
        Ok(())
    }

    /// How many migrations this binary knows and the database has not seen.
    pub async fn pending_migrations(&self) -> Result<usize> {
        let mut connection = PgConnection::connect_with(&self.options).await?;
        Ok(migrate::pending(store::applied_versions(&mut connection).await)?.len())
    }
}

/// A server that has no connection left says so, and is there.
fn miss(error: sqlx::Error) -> Miss {
    let is_full = error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "53300");
    if is_full { Miss::Busy(error.into()) } else { Miss::Refusal(error.into()) }
}

pub async fn server_facts(pg: &PgPool) -> Result<ServerFacts> {
    let (version, max_connections, synchronous_commit) = store::server_facts(pg).await?;
    let now_s = time::OffsetDateTime::now_utc().unix_timestamp_nanos() as f64 / 1e9;
    let clock_ahead_s = store::clock_ahead_s(pg, now_s).await?;
    Ok(ServerFacts { version, max_connections, synchronous_commit, clock_ahead_s })
}

/// `(max_connections, connections of clients now)` of the server.
pub async fn connections(pg: &PgPool) -> Result<(i32, i64)> {
    store::connections(pg).await
}

/// Keeps the pools of an API process, whose size is left to us, within its share of the server. A server that is away leaves the size as it is.
pub async fn fit_pool(settings: &mut Settings) {
    // The probes', one for the threads, and one for the process.
    fit(settings, settings.db_pool_max(), 4).await;
}

/// The same of a worker with all its children.
pub async fn fit_worker_pool(settings: &mut Settings) {
    fit(settings, settings.db_pool_max_of_worker(), pools::least_of_worker(settings.n_children())).await;
}

async fn fit(settings: &mut Settings, wanted: u32, least: u32) {
    if settings.db_pool_max == Auto::Auto {
        fit_share(settings, wanted).await;
    }
    let Auto::Set(most) = settings.db_pool_max else { return };
    if most < least {
        tracing::warn!(
            most,
            least,
            "this process opens more connections than its DB_POOL_MAX, which it cannot do with: raise it, or max_connections"
        );
    }
}

async fn fit_share(settings: &mut Settings, wanted: u32) {
    let patience = Duration::from_millis(settings.db_acquire_timeout_ms);
    let Ok(pool) = open_spare_pool(settings, 1) else { return };
    let asked = tokio::time::timeout(patience, store::connections(&pool)).await;
    pool.close().await;
    let Ok(Ok((max_connections, _))) = asked else {
        tracing::warn!(most = wanted, "PostgreSQL does not say how many connections it takes: this process is not held to its share");
        return;
    };
    settings.fit_pool(wanted, u32::try_from(max_connections).unwrap_or(u32::MAX));
}

/// Tells how busy the server is.
pub async fn tell(pg: &PgPool, page: &mut Page) -> Result<()> {
    let activity = store::activity(pg).await?;
    let states = [
        ("active", activity.active),
        ("idle", activity.idle),
        ("idle_in_transaction", activity.idle_in_transaction),
        ("other", activity.other),
    ];
    page.series(PG_CONNECTIONS, states.map(|(state, n)| ([state.to_owned()], n as f64)));
    page.single(PG_MAX_CONNECTIONS, activity.max_connections);
    page.single(PG_LOCK_WAITS, activity.lock_waits);
    page.single(PG_LONGEST_TRANSACTION, activity.longest_transaction_s);
    page.single(PG_DATABASE_BYTES, activity.database_bytes);
    page.single(PG_REPLICAS, activity.replicas);
    page.single(PG_REPLICATION_LAG, activity.replication_lag_s);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestStores;
    use sqlx::Executor;

    #[tokio::test]
    async fn a_statement_past_its_deadline_is_ended_by_the_server() {
        let stores = TestStores::create().await;
        let ctx = stores.context(&[("DB_STATEMENT_TIMEOUT_MS", "50")]);
        let error = Error::from(ctx.pg.execute("SELECT pg_sleep(20)").await.expect_err("it takes too long"));
        assert_eq!(error.code, Code::DeadlineExceeded);
        store::ping(&ctx.pg).await.expect("the connection is as good as before");
    }

    #[tokio::test]
    async fn a_server_without_a_connection_for_the_probe_is_busy_and_not_away() {
        let stores = TestStores::create().await;
        let ctx = stores.context(&[]);
        let role = format!("probe_{}", uuid::Uuid::now_v7().simple());
        ctx.pg.execute(sqlx::AssertSqlSafe(format!("CREATE ROLE {role} LOGIN PASSWORD 'x' CONNECTION LIMIT 0"))).await.unwrap();
        let mut url = Url::parse(ctx.settings().database_url.expose_secret()).unwrap();
        url.set_username(&role).unwrap();
        url.set_password(Some("x")).unwrap();
        let asked = Probe::new(&stores.settings(&[("DATABASE_URL", url.as_str())])).unwrap().ask().await;
        ctx.pg.execute(sqlx::AssertSqlSafe(format!("DROP ROLE {role}"))).await.unwrap();
        assert!(matches!(asked, Err(Miss::Busy(_))), "{asked:?}");
    }

    #[tokio::test]
    async fn who_finds_no_connection_in_time_is_told_so() {
        let stores = TestStores::create().await;
        let ctx = stores.context(&[("DB_POOL_MAX", "1"), ("DB_ACQUIRE_TIMEOUT_MS", "2000")]);
        let held = ctx.pg.acquire().await.expect("there is one");
        assert_eq!(Error::from(ctx.pg.acquire().await.expect_err("there is no other")).code, Code::DatabaseUnavailable);
        drop(held);
        ctx.pg.acquire().await.expect("it is given back");
    }
}
