//! Files on real servers: what is seen, what counts, and what is left behind by whoever gives up or dies.

mod s3;
mod sweep;
mod writing;

use super::{
    File,
    content::{self, Content},
    manage, sweep as sweeper,
    writing::{NewFile, Writer},
};
use crate::{
    Caller, Context, Result, Role,
    accounts::Origin,
    caller::Credential,
    ids::{FileId, SessionId, UserId},
    testing::TestStores,
};
use futures_util::TryStreamExt;
use std::{
    fs,
    path::{Path, PathBuf},
};
use time::Duration;

/// A context on stores of its own, which vanish with it.
struct Fixture {
    ctx: Context,
    user: Caller,
    stores: TestStores,
}

impl Fixture {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(overrides: &[(&str, &str)]) -> Self {
        let stores = TestStores::create().await;
        let ctx = stores.context(overrides);
        let user = account(&ctx, Role::User).await;
        Self { ctx, user, stores }
    }

    fn new_file<'a>(&self, name: &'a str) -> NewFile<'a> {
        NewFile { owner_id: self.user.user_id, name, content_type: None, size_hint: None, made_by: None }
    }

    async fn write(&self, name: &str, content: &[u8]) -> Result<File> {
        self.write_as(self.new_file(name), content).await
    }

    async fn write_as(&self, new: NewFile<'_>, content: &[u8]) -> Result<File> {
        let mut writer = Writer::open(&self.ctx, new).await?;
        writer.write(content).await?;
        writer.finish().await
    }

    async fn read(&self, id: FileId) -> Result<Vec<u8>> {
        bytes_of(content::open_for_job(&self.ctx, self.user.user_id, id).await?).await
    }

    /// Everything in the folder of the store, by its path in it.
    fn objects(&self) -> Vec<PathBuf> {
        let folder = self.stores.variables.iter().find(|(name, _)| name == "STORAGE_URL").unwrap().1.strip_prefix("file://").unwrap();
        files_in(Path::new(folder))
    }

    async fn count(&self, table: &'static str) -> i64 {
        sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"))).fetch_one(&self.ctx.pg).await.unwrap()
    }

    /// Files and bytes that count against the user's quota.
    async fn usage(&self) -> (i64, i64) {
        let row: Option<(i64, i64)> = sqlx::query_as("SELECT n_files, size_bytes FROM file_usage WHERE owner_id = $1")
            .bind(self.user.user_id.0)
            .fetch_optional(&self.ctx.pg)
            .await
            .unwrap();
        row.unwrap_or_default()
    }

    /// What the leader does, so much later.
    async fn sweep_after(&self, by: Duration) {
        self.ctx.clock.advance(by);
        sweeper::keep_house(&self.ctx).await.unwrap();
    }
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
}

async fn bytes_of(content: Content) -> Result<Vec<u8>> {
    content
        .into_stream()
        .try_fold(Vec::new(), async |mut all, chunk| {
            Ok({
                all.extend_from_slice(&chunk);
                all
            })
        })
        .await
}

async fn account(ctx: &Context, role: Role) -> Caller {
    let id = UserId::new();
    let email = format!("{id}@example.org");
    sqlx::query("INSERT INTO users (id, email, password_hash, role, created_at, updated_at) VALUES ($1, $2, '', $3, now(), now())")
        .bind(id.0)
        .bind(email)
        .bind(role.as_str())
        .execute(&ctx.pg)
        .await
        .unwrap();
    Caller::new(id, role, role.scopes(), Credential::Session(SessionId::new()))
}

/// Bytes that look like nothing.
fn noise(n: usize) -> Vec<u8> {
    (0..n).map(|at| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]).collect()
}
