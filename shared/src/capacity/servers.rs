//! What PostgreSQL and Redis have room for, as they say themselves.

use crate::{Context, pg, redis::Role};
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct PostgresRoom {
    pub max_connections: u32,
    /// Connections of clients, ours and others'.
    pub connections: u32,
}

/// Of several servers the one with the least room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct RedisRoom {
    /// 0 is no limit.
    pub maxmemory_bytes: u64,
    pub used_memory_bytes: u64,
    pub maxclients: u32,
    pub clients: u32,
}

/// `None` while the server does not answer.
pub(super) async fn postgres(ctx: &Context) -> Option<PostgresRoom> {
    let (max_connections, connections) = pg::connections(&ctx.pg).await.ok()?;
    Some(PostgresRoom { max_connections: u32::try_from(max_connections).ok()?, connections: u32::try_from(connections).ok()? })
}

/// `None` while no server answers.
pub(super) async fn redis(ctx: &Context) -> Option<RedisRoom> {
    let facts = ctx.redis.facts().await.ok()?;
    let masters = facts.nodes.iter().filter_map(|node| node.answer.as_ref().ok()).filter(|answer| answer.role == Role::Master);
    masters.map(|answer| answer.room).max_by_key(|room| (room.used_percent().unwrap_or(0.0) * 10.0) as u64)
}

impl RedisRoom {
    /// `None` where no limit is set.
    pub fn used_percent(&self) -> Option<f64> {
        (self.maxmemory_bytes > 0).then(|| 100.0 * self.used_memory_bytes as f64 / self.maxmemory_bytes as f64)
    }
}
