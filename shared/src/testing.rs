//! For tests only: a database and a key prefix of one's own on the real servers that `DATABASE_URL` and `REDIS_URL` name.
//!
//! A database is copied from a migrated template, so a test pays for the copy and not for the migrations. Dropping a
//! [`TestStores`] drops the database and the keys.

mod hours;
mod metrics_page;
mod proxy;
mod redis_server;
mod redis_topology;

pub use hours::{all_hours, differing_hours};
pub use metrics_page::MetricsPage;
pub use proxy::Proxy;
pub use redis_server::RedisServer;
pub use redis_topology::{RedisTopology, server_of};

use crate::{
    Context, Result,
    config::{Layers, Settings},
    pg,
    redis::Redis,
};
use secrecy::ExposeSecret;
use sqlx::{Connection, Executor, PgConnection, postgres::PgConnectOptions};
use std::{convert::Infallible, env, fs, str::FromStr, sync::mpsc, thread, time::Duration};
use tokio::{runtime::Runtime, sync::OnceCell};
use uuid::Uuid;

/// A database and a key prefix that vanish with this value.
#[derive(Debug)]
pub struct TestStores {
    /// What a process needs in its environment to work on these stores.
    pub variables: Vec<(String, String)>,
    admin_url: String,
    redis_url: String,
    database: String,
    prefix: String,
}

impl TestStores {
    pub async fn create() -> Self {
        let settings = process_settings();
        let admin_url = settings.database_url.expose_secret().to_owned();
        let redis_url = settings.redis_url.expose_secret().to_owned();
        let template = template(&admin_url).await;
        let id = Uuid::new_v4().simple().to_string();
        let (database, prefix) = (format!("mr_test_{id}"), format!("t{}", &id[..20]));
        let mut admin = PgConnection::connect(&admin_url).await.expect("the test database server answers");
        admin
            .execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {database} TEMPLATE {template}")))
            .await
            .expect("a test may create databases");
        let variables = [
            ("DATABASE_URL", with_database(&admin_url, &database)),
            ("REDIS_URL", redis_url.clone()),
            ("REDIS_PREFIX", prefix.clone()),
            ("JWT_KEYS_DIR", keys_dir(&database)),
            ("STORAGE_URL", format!("file://{}", files_dir(&database))),
            ("DB_POOL_MIN", "0".to_owned()),
            ("DB_POOL_MAX", "8".to_owned()),
            // The machine may be busy with other tests, and no test is about that.
            ("DB_ACQUIRE_TIMEOUT_MS", "20000".to_owned()),
            ("REDIS_ACQUIRE_TIMEOUT_MS", "5000".to_owned()),
            ("HEALTH_PROBE_TIMEOUT_MS", "10000".to_owned()),
        ];
        let mut variables = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
        // The common Redis may be one over TLS (infra/local/tls).
        variables.extend(settings.redis_ca_file.map(|path| ("REDIS_CA_FILE".to_owned(), path.display().to_string())));
        Self { variables, admin_url, redis_url, database, prefix }
    }

    /// Puts another Redis in the place of the common one.
    pub fn use_redis(&mut self, redis: &RedisServer) {
        self.use_redis_url(&redis.url());
    }

    pub fn use_redis_url(&mut self, url: &str) {
        for (name, value) in &mut self.variables {
            if name == "REDIS_URL" {
                url.clone_into(value);
            }
        }
    }

    /// A context on these stores, with `overrides` (variable, value) on top.
    pub fn context(&self, overrides: &[(&str, &str)]) -> Context {
        Context::open(self.settings(overrides)).expect("the pools open lazily")
    }

    pub fn settings(&self, overrides: &[(&str, &str)]) -> Settings {
        let overrides = overrides.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let layers = Layers::new(self.variables.iter().cloned().chain(overrides), &[]).expect("a test names a known profile");
        Settings::load(&layers).expect("a test's settings are valid")
    }
}

/// How long a test waits until its stores are gone; what takes longer goes on without it.
const CLEANING: Duration = Duration::from_millis(500);

impl Drop for TestStores {
    fn drop(&mut self) {
        let (admin_url, redis_url) = (self.admin_url.clone(), self.redis_url.clone());
        let (database, prefix) = (self.database.clone(), self.prefix.clone());
        let settings = self.settings(&[("REDIS_URL", &redis_url)]);
        // A thread of its own, because a test's runtime may already be shutting down.
        let (cleaning, cleaned) = mpsc::channel::<Infallible>();
        thread::spawn(move || {
            let _cleaning = cleaning;
            Runtime::new().expect("a runtime starts").block_on(async {
                if let Ok(mut admin) = PgConnection::connect(&admin_url).await {
                    drop(admin.execute(sqlx::AssertSqlSafe(format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)"))).await);
                }
                if let Ok(redis) = Redis::open(&settings) {
                    drop(delete_keys(&redis, &format!("{prefix}:*")).await);
                }
                drop(fs::remove_dir_all(keys_dir(&database)));
                drop(fs::remove_dir_all(files_dir(&database)));
            });
        });
        // PostgreSQL drops nothing while somebody signs in, and whoever does that on the test's runtime does not get on before this is over.
        let _ = cleaned.recv_timeout(CLEANING);
    }
}

/// Where the processes of a test find, or make, their signing keys.
fn keys_dir(database: &str) -> String {
    env::temp_dir().join(format!("{database}_keys")).display().to_string()
}

/// Where the contents of a test's files are.
fn files_dir(database: &str) -> String {
    env::temp_dir().join(format!("{database}_files")).display().to_string()
}

fn process_settings() -> Settings {
    let layers = Layers::from_process(&[]).expect("the environment names a known profile");
    Settings::load(&layers).expect("tests need DATABASE_URL and REDIS_URL: run `make test`, or infra/local/with-servers cargo test")
}

/// The migrated database that tests copy; made by the first test to come, whichever process it is in.
async fn template(admin_url: &str) -> String {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    TEMPLATE.get_or_init(|| make_template(admin_url)).await.clone()
}

async fn make_template(admin_url: &str) -> String {
    let fingerprint = pg::MIGRATIONS
        .iter()
        .flat_map(|m| m.checksum.iter())
        .fold(0u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let name = format!("mr_template_{fingerprint:016x}");
    let mut admin = PgConnection::connect(admin_url).await.expect("the test database server answers");
    admin.execute("SELECT pg_advisory_lock(7205759)").await.expect("advisory locks work");
    let exists = sqlx::query("SELECT 1 FROM pg_database WHERE datname = $1")
        .bind(&name)
        .fetch_optional(&mut admin)
        .await
        .expect("the catalogue can be read")
        .is_some();
    if !exists {
        let draft = format!("{name}_draft");
        for statement in [format!("DROP DATABASE IF EXISTS {draft} WITH (FORCE)"), format!("CREATE DATABASE {draft}")] {
            admin.execute(sqlx::AssertSqlSafe(statement)).await.expect("a test may create databases");
        }
        let options = PgConnectOptions::from_str(&with_database(admin_url, &draft)).expect("the URL was good before");
        let mut connection = PgConnection::connect_with(&options).await.expect("the new database answers");
        pg::MIGRATIONS.run(&mut connection).await.expect("the migrations apply to an empty database");
        connection.close().await.expect("the connection closes");
        admin.execute(sqlx::AssertSqlSafe(format!("ALTER DATABASE {draft} RENAME TO {name}"))).await.expect("nobody uses the draft");
    }
    admin.close().await.expect("closing frees the lock");
    name
}

/// The same URL with another database's name in its path.
fn with_database(url: &str, database: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let authority_at = base.find("://").map_or(0, |at| at + 3);
    let path_at = base[authority_at..].find('/').map_or(base.len(), |at| authority_at + at);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{database}{query}", &base[..path_at])
}

/// Deletes whatever matches, on every server there is.
pub async fn delete_keys(redis: &Redis, pattern: &str) -> Result<()> {
    let mut connection = redis.connection();
    let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut connection).await?;
    for keys in keys.chunks(1_000) {
        let mut pipe = redis::pipe();
        for key in keys {
            pipe.cmd("UNLINK").arg(key);
        }
        pipe.exec_async(&mut connection).await?;
    }
    Ok(())
}
