//! Which processes of the platform are alive: each writes a heartbeat to Redis, and whoever asks reads those not yet stale.

use crate::{Context, Result, clock, ids::NodeId};
use serde::Serialize;
use std::{collections::HashMap, time::Duration};
use time::OffsetDateTime;
use utoipa::ToSchema;

/// Time between heartbeats.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// A node that was silent for so long is no longer listed.
const STALE_AFTER_MS: i64 = 30_000;
/// Most nodes listed.
const LISTED_MAX: isize = 1_000;

/// One running process.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Node {
    pub id: String,
    pub host: String,
    /// `api` or `jobs`.
    #[schema(example = "api")]
    pub kind: String,
    pub version: String,
    #[serde(with = "time::serde::rfc3339")]
    pub heartbeat_at: OffsetDateTime,
}

/// Tells the others that this process is alive.
pub async fn beat(ctx: &Context, id: NodeId, kind: &str) -> Result<()> {
    let (id, now_ms) = (id.to_string(), clock::unix_ms(ctx.clock.now()));
    let (key, index) = (ctx.keys.node(&id), ctx.keys.nodes());
    let fields = [
        ("host", host()),
        ("kind", kind.to_owned()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("heartbeat_ms", now_ms.to_string()),
    ];
    let mut pipe = redis::pipe();
    pipe.hset_multiple(&key, &fields).ignore().pexpire(&key, STALE_AFTER_MS).ignore();
    pipe.zadd(&index, &id, now_ms).ignore().zrembyscore(&index, 0, now_ms - STALE_AFTER_MS).ignore();
    Ok(pipe.exec_async(&mut ctx.redis.connection()).await?)
}

/// Says goodbye, so that nobody waits for the heartbeat to go stale.
pub async fn leave(ctx: &Context, id: NodeId) -> Result<()> {
    let id = id.to_string();
    let mut pipe = redis::pipe();
    pipe.del(ctx.keys.node(&id)).ignore().zrem(ctx.keys.nodes(), &id).ignore();
    Ok(pipe.exec_async(&mut ctx.redis.connection()).await?)
}

/// All nodes whose heartbeat is fresh.
pub async fn list(ctx: &Context) -> Result<Vec<Node>> {
    let mut connection = ctx.redis.connection();
    let ids: Vec<String> = redis::cmd("ZRANGE").arg(ctx.keys.nodes()).arg(0).arg(LISTED_MAX).query_async(&mut connection).await?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut pipe = redis::pipe();
    for id in &ids {
        pipe.hgetall(ctx.keys.node(id));
    }
    let hashes: Vec<HashMap<String, String>> = pipe.query_async(&mut connection).await?;
    Ok(ids.into_iter().zip(hashes).filter_map(|(id, hash)| node_from(id, hash)).collect())
}

fn node_from(id: String, mut hash: HashMap<String, String>) -> Option<Node> {
    let heartbeat_at = clock::from_unix_ms(hash.get("heartbeat_ms")?.parse().ok()?)?;
    let mut take = |name: &str| hash.remove(name).unwrap_or_default();
    Some(Node { id, host: take("host"), kind: take("kind"), version: take("version"), heartbeat_at })
}

/// The machine's name, as the kernel has it.
pub fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}
