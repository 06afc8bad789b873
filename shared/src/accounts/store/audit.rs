//! Statements on `audit_log`.

use crate::{
    Result,
    accounts::audit::Entry,
    ids::{AuditId, UserId},
    page::PageRequest,
    pg::ByValues,
};
use sqlx::{PgExecutor, types::Json};
use std::net::IpAddr;

pub(in crate::accounts) async fn insert(db: impl PgExecutor<'_>, entry: &Entry) -> Result<()> {
    sqlx::query!(
        "INSERT INTO audit_log (id, actor_id, action, subject_kind, subject_id, detail, request_id, address, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        entry.id.0,
        entry.actor_id.map(|id| id.0),
        entry.action,
        entry.subject_kind,
        entry.subject_id,
        entry.detail,
        entry.request_id,
        entry.address as _,
        entry.created_at,
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(in crate::accounts) async fn page(db: ByValues<impl PgExecutor<'_>>, page: &PageRequest) -> Result<Vec<Entry>> {
    let rows = sqlx::query!(
        r#"SELECT id AS "id: AuditId", actor_id AS "actor_id: UserId", action, subject_kind, subject_id,
                  detail AS "detail: Json<serde_json::Value>", request_id, address AS "address: IpAddr", created_at
           FROM audit_log
           WHERE $1::uuid IS NULL OR id < $1
           ORDER BY id DESC
           LIMIT $2"#,
        page.before,
        page.fetch(),
    )
    .fetch_all(db)
    .await?;
    let entries = rows.into_iter().map(|row| Entry {
        id: row.id,
        actor_id: row.actor_id,
        action: row.action,
        subject_kind: row.subject_kind,
        subject_id: row.subject_id,
        detail: row.detail.0,
        request_id: row.request_id,
        address: row.address,
        created_at: row.created_at,
    });
    Ok(entries.collect())
}
