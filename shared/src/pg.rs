//! PostgreSQL: the pool with its deadlines, and the migrations built into the binary.

use crate::{Error, Result, config::Settings};
use secrecy::ExposeSecret;
use sqlx::{
    PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{str::FromStr, time::Duration};

pub static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

pub fn open_pool(settings: &Settings) -> Result<PgPool> {
    let options = connect_options(settings, settings.database_url.expose_secret())?;
    Ok(PgPoolOptions::new()
        .min_connections(settings.db_pool_min())
        .max_connections(settings.db_pool_max())
        .acquire_timeout(Duration::from_millis(settings.db_acquire_timeout_ms))
        // A fresh connection costs a fork in the server: keep those we have, and trust them.
        .idle_timeout(Duration::from_mins(10))
        .test_before_acquire(false)
        .connect_lazy_with(options))
}

/// Options of a connection that stands outside the pool: migrations, advisory locks, behind PgBouncer.
pub fn direct_options(settings: &Settings) -> Result<PgConnectOptions> {
    let url = settings.database_direct_url.as_ref().unwrap_or(&settings.database_url);
    connect_options(settings, url.expose_secret())
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
