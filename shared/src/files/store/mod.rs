//! Statements on `files`. [`sweep`]: those of who cleans up.

pub(super) mod sweep;

use super::{File, StoreId, hexadecimal};
use crate::{
    Result,
    ids::{FileId, JobId, UserId},
    page::PageRequest,
    pg::ByValues,
};
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

struct FileRow {
    id: FileId,
    owner_id: UserId,
    name: String,
    content_type: String,
    size_bytes: i64,
    sha256: Vec<u8>,
    created_at: OffsetDateTime,
}

impl From<FileRow> for File {
    fn from(row: FileRow) -> Self {
        let FileRow { id, owner_id, name, content_type, size_bytes, sha256, created_at } = row;
        Self { id, name, size_bytes: size_bytes.unsigned_abs(), sha256: hexadecimal(&sha256), content_type, owner_id, created_at }
    }
}

/// What a user has, unfinished files among it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Usage {
    pub(super) n_files: i64,
    pub(super) size_bytes: i64,
}

/// A file that is about to be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unfinished<'a> {
    pub(super) id: FileId,
    pub(super) owner_id: UserId,
    pub(super) name: &'a str,
    pub(super) reserved_bytes: i64,
    pub(super) made_by: Option<JobId>,
    pub(super) created_at: OffsetDateTime,
}

/// What is known of a file once it is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finished<'a> {
    pub(super) id: FileId,
    pub(super) sha256: &'a [u8],
    pub(super) content_type: &'a str,
    pub(super) stored_at: OffsetDateTime,
}

pub(super) async fn store_id(db: impl PgExecutor<'_>) -> Result<StoreId> {
    Ok(StoreId(sqlx::query_scalar!("SELECT id FROM file_store").fetch_one(db).await?))
}

/// The commit of this transaction need not be on the disk: what it reserves is lost together with the process that writes, or is said again by a
/// later one. Others of the same owner wait for as long as it takes.
pub(super) async fn commit_lightly(tx: &mut PgConnection) -> Result<()> {
    sqlx::query!("SET LOCAL synchronous_commit = off").execute(tx).await?;
    Ok(())
}

/// The caller asks [`usage`] in the same transaction whether there is room for it.
pub(super) async fn insert(tx: &mut PgConnection, new: Unfinished<'_>) -> Result<()> {
    sqlx::query!(
        "INSERT INTO files (id, owner_id, name, content_type, size_bytes, made_by, created_at)
        VALUES ($1, $2, $3, 'application/octet-stream', $4, $5, $6)",
        new.id.0,
        new.owner_id.0,
        new.name,
        new.reserved_bytes,
        new.made_by.map(|id| id.0),
        new.created_at,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Exact in a transaction that changed it: others of the same owner wait for its end.
pub(super) async fn usage(tx: &mut PgConnection, owner_id: UserId) -> Result<Usage> {
    let usage = sqlx::query_as!(Usage, "SELECT n_files, size_bytes FROM file_usage WHERE owner_id = $1", owner_id.0);
    Ok(usage.fetch_optional(tx).await?.unwrap_or_default())
}

/// What is left of the files of that name which earlier runs of the job made: with the next one they go.
pub(super) async fn made_before(tx: &mut PgConnection, job_id: JobId, name: &str, before: FileId) -> Result<Usage> {
    let usage = sqlx::query_as!(
        Usage,
        r#"SELECT count(*) AS "n_files!", COALESCE(sum(size_bytes), 0)::bigint AS "size_bytes!"
        FROM files
        WHERE made_by = $1 AND name = $2 AND stored_at IS NOT NULL AND id < $3"#,
        job_id.0,
        name,
        before.0,
    );
    Ok(usage.fetch_one(tx).await?)
}

/// Reserves more for a file that is being written; `false`: it was given up, or its owner is gone.
pub(super) async fn reserve(tx: &mut PgConnection, id: FileId, reserved_bytes: i64) -> Result<bool> {
    let done = sqlx::query!(
        "UPDATE files
        SET size_bytes = $2
        WHERE id = $1 AND stored_at IS NULL",
        id.0,
        reserved_bytes,
    );
    Ok(done.execute(tx).await?.rows_affected() == 1)
}

/// Notes what the store calls the upload; `false` as for [`reserve`].
pub(super) async fn note_upload(db: impl PgExecutor<'_>, id: FileId, upload_id: &str) -> Result<bool> {
    let done = sqlx::query!("UPDATE files SET upload_id = $2 WHERE id = $1 AND stored_at IS NULL", id.0, upload_id);
    Ok(done.execute(db).await?.rows_affected() == 1)
}

/// From here on it is seen; `None` as for [`reserve`]. What was reserved is its size.
pub(super) async fn finish(tx: &mut PgConnection, done: Finished<'_>) -> Result<Option<File>> {
    let row = sqlx::query_as!(
        FileRow,
        r#"UPDATE files
        SET sha256 = $2, content_type = $3, stored_at = $4, upload_id = NULL
        WHERE id = $1 AND stored_at IS NULL
        RETURNING id AS "id: FileId", owner_id AS "owner_id: UserId", name, content_type, size_bytes, sha256 AS "sha256!", created_at"#,
        done.id.0,
        done.sha256,
        done.content_type,
        done.stored_at,
    );
    Ok(row.fetch_optional(tx).await?.map(File::from))
}

/// The file of that name which an earlier run of the job made.
pub(super) async fn delete_made_by(tx: &mut PgConnection, job_id: JobId, name: &str, before: FileId) -> Result<Option<FileId>> {
    let id = sqlx::query_scalar!(
        r#"DELETE FROM files
        WHERE made_by = $1 AND name = $2 AND stored_at IS NOT NULL AND id < $3
        RETURNING id AS "id: FileId""#,
        job_id.0,
        name,
        before.0,
    );
    Ok(id.fetch_optional(tx).await?)
}

/// Deletes one that is not finished; `false`: there is none, or it is finished.
pub(super) async fn delete_unfinished(db: impl PgExecutor<'_>, id: FileId) -> Result<bool> {
    let done = sqlx::query!("DELETE FROM files WHERE id = $1 AND stored_at IS NULL", id.0);
    Ok(done.execute(db).await?.rows_affected() == 1)
}

/// A file that `owner` may see; `None` sees all.
pub(super) async fn by_id(db: impl PgExecutor<'_>, id: FileId, owner: Option<UserId>) -> Result<Option<File>> {
    let row = sqlx::query_as!(
        FileRow,
        r#"SELECT id AS "id: FileId", owner_id AS "owner_id: UserId", name, content_type, size_bytes, sha256 AS "sha256!", created_at
        FROM files
        WHERE id = $1 AND stored_at IS NOT NULL AND ($2::uuid IS NULL OR owner_id = $2)"#,
        id.0,
        owner.map(|owner| owner.0),
    );
    Ok(row.fetch_optional(db).await?.map(File::from))
}

/// A file that the owner of a job may see: their own, and everybody's if they are operators.
pub(super) async fn by_id_for(db: impl PgExecutor<'_>, id: FileId, job_owner: UserId) -> Result<Option<File>> {
    let row = sqlx::query_as!(
        FileRow,
        r#"SELECT id AS "id: FileId", owner_id AS "owner_id: UserId", name, content_type, size_bytes, sha256 AS "sha256!", created_at
        FROM files
        WHERE id = $1
          AND stored_at IS NOT NULL
          AND (owner_id = $2 OR EXISTS (SELECT FROM users WHERE id = $2 AND role IN ('operator', 'admin') AND NOT disabled))
          AND NOT EXISTS (SELECT FROM users WHERE id = $2 AND deleted_at IS NOT NULL)"#,
        id.0,
        job_owner.0,
    );
    Ok(row.fetch_optional(db).await?.map(File::from))
}

/// Whether there is such a file, whosever it is.
pub(super) async fn is_stored(db: impl PgExecutor<'_>, id: FileId) -> Result<bool> {
    let is_stored =
        sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM files WHERE id = $1 AND stored_at IS NOT NULL) AS "is_stored!""#, id.0);
    Ok(is_stored.fetch_one(db).await?)
}

/// Newest first.
pub(super) async fn page(db: ByValues<impl PgExecutor<'_>>, owner: Option<UserId>, request: &PageRequest) -> Result<Vec<File>> {
    let rows = sqlx::query_as!(
        FileRow,
        r#"SELECT id AS "id: FileId", owner_id AS "owner_id: UserId", name, content_type, size_bytes, sha256 AS "sha256!", created_at
        FROM files
        WHERE ($1::uuid IS NULL OR owner_id = $1)
          AND ($2::uuid IS NULL OR id < $2)
          AND stored_at IS NOT NULL
        ORDER BY id DESC
        LIMIT $3"#,
        owner.map(|owner| owner.0),
        request.before,
        request.fetch(),
    );
    Ok(rows.fetch_all(db).await?.into_iter().map(File::from).collect())
}

/// Deletes a file that `owner` may see; a note of its object stays. Returns its name.
pub(super) async fn delete(tx: &mut PgConnection, id: FileId, owner: Option<UserId>) -> Result<Option<String>> {
    let name = sqlx::query_scalar!(
        "DELETE FROM files
        WHERE id = $1 AND stored_at IS NOT NULL AND ($2::uuid IS NULL OR owner_id = $2)
        RETURNING name",
        id.0,
        owner.map(|owner| owner.0),
    );
    Ok(name.fetch_optional(tx).await?)
}

/// Which of them have a row, finished or not.
pub(super) async fn known(db: impl PgExecutor<'_>, ids: &[Uuid]) -> Result<Vec<Uuid>> {
    Ok(sqlx::query_scalar!("SELECT id FROM files WHERE id = ANY($1)", ids).fetch_all(db).await?)
}
