//! The migrations built into the binary: which are missing, and applying them one by one.

use super::{direct_options, store};
use crate::{Code, Error, Result, config::Settings};
use sqlx::{
    Connection, PgConnection, PgPool,
    migrate::{Migrate, Migration, Migrator},
};
use std::time::{Duration, Instant};

pub static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// A migration that was just applied.
#[derive(Debug)]
pub struct Applied {
    pub version: i64,
    pub name: &'static str,
    pub took: Duration,
}

/// Applies what is missing, outside the pool and without its statement timeout, and tells `applied` of each when it is done. Safe to run from
/// several processes at once, and on a database that a later release has seen: the one before must start again after a step back, and every
/// migration is safe for it.
pub async fn migrate(settings: &Settings, mut applied: impl FnMut(&Applied)) -> Result<()> {
    let options = direct_options(settings)?.options([("statement_timeout", "0"), ("lock_timeout", "0")]);
    let mut connection = PgConnection::connect_with(&options).await?;
    // Over all of them, so that what is missing now is ours to apply and to tell. The session's end unlocks.
    connection.lock().await.map_err(Error::internal)?;
    let mut migrator = Migrator::with_migrations(MIGRATIONS.iter().cloned().collect());
    migrator.set_ignore_missing(true).set_locking(false);
    for migration in pending(store::applied_versions(&mut connection).await)? {
        let began = Instant::now();
        migrator.run_to(migration.version, &mut connection).await.map_err(Error::internal)?;
        applied(&Applied { version: migration.version, name: &migration.description, took: began.elapsed() });
    }
    // Also where nothing is missing: what was applied must be what we have.
    migrator.run(&mut connection).await.map_err(Error::internal)?;
    connection.close().await?;
    Ok(())
}

/// How many migrations this binary knows and the database has not seen.
pub async fn pending_migrations(pg: &PgPool) -> Result<usize> {
    Ok(pending(store::applied_versions(pg).await)?.len())
}

/// Those of our migrations that are not in `applied`, in their order.
pub(super) fn pending(applied: Result<Vec<i64>>) -> Result<Vec<&'static Migration>> {
    let applied = match applied {
        Ok(applied) => applied,
        // An empty database has no table to ask yet.
        Err(error) if error.code == Code::Internal => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok(MIGRATIONS.iter().filter(|m| m.migration_type.is_up_migration() && !applied.contains(&m.version)).collect())
}
