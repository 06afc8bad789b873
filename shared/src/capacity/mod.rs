//! How large Millrace should be: for a machine, the two servers and a load, what to set, how many nodes to have, and why.
//!
//! In reading order: [`tiers`]: what numbers of users ask for. [`pools`]: connections. [`machine`], [`servers`], [`load`]: what there is.
//! [`sizing`]: the rules put together. [`signals`]: when to add. [`text`]: the same for people. Rules do no I/O: only [`look`] asks.

pub mod load;
pub mod machine;
pub mod pools;
pub mod servers;
pub mod signals;
pub mod sizing;
pub mod text;
pub mod tiers;

#[cfg(test)]
mod tests;

use crate::{
    Code, Context, Error, Result,
    config::{Profile, Settings},
};
pub use load::{Load, OfProcess};
pub use machine::Machine;
use serde::{Deserialize, Serialize};
pub use servers::{PostgresRoom, RedisRoom};
pub use signals::Signal;
pub use tiers::{Band, Tier};
use utoipa::{IntoParams, ToSchema};

/// Most users that may be asked about.
pub const USERS_MAX: u64 = 10_000_000;
const USERS_BEYOND: u64 = USERS_MAX + 1;

/// Which load the size is for.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct CapacityQuery {
    /// For so many concurrent users, 1 to 10,000,000; without it for what goes on now.
    #[param(minimum = 1, maximum = 10_000_000, example = 1000)]
    pub users: Option<u64>,
}

impl CapacityQuery {
    pub fn checked(&self) -> Result<Option<u64>> {
        match self.users {
            Some(0) | Some(USERS_BEYOND..) => Err(Error::new(Code::InvalidQuery, "`users` is 1 to 10,000,000.")),
            users => Ok(users),
        }
    }
}

/// What there is, what it should be, and why.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Capacity {
    pub machine: Machine,
    /// `null` while PostgreSQL does not answer.
    #[schema(required)]
    pub postgres: Option<PostgresRoom>,
    /// `null` while Redis does not answer.
    #[schema(required)]
    pub redis: Option<RedisRoom>,
    pub load: Load,
    pub tier: Tier,
    /// The profile whose defaults are nearest.
    #[schema(example = "production")]
    pub profile: &'static str,
    /// Machines like this one.
    #[schema(example = 1)]
    pub nodes: u32,
    /// How much of a machine's cores the API's threads take.
    pub band: Band,
    /// What to set, each with its reason.
    pub advice: Vec<Advice>,
    /// When to add.
    pub signals: Vec<Signal>,
    /// The same as settings, each line ready for an `.env` file.
    #[schema(example = json!(["APP_PROFILE=production", "API_WORKERS=2"]))]
    pub env: Vec<String>,
}

/// One figure, why it is this one, and the rule that it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Advice {
    /// A setting, or what a figure is of.
    #[schema(example = "API_WORKERS")]
    pub name: &'static str,
    #[schema(example = 2)]
    pub value: u64,
    #[schema(example = "threads")]
    pub unit: &'static str,
    /// What it is now, where that is known.
    #[schema(required, example = 4)]
    pub now: Option<u64>,
    pub reason: String,
    #[schema(example = "moderate: as many as cores")]
    pub rule: &'static str,
}

/// The settings in force that sizes are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub profile: Profile,
    pub api_workers: u32,
    pub concurrency_limit: u32,
    pub db_pool_min: u32,
    pub db_pool_max: u32,
    pub db_processes: u32,
    pub redis_max_connections: u32,
    pub ws_max_connections: u64,
    pub job_slots: u32,
    pub bodies_max_bytes: u64,
    pub password_hashes_max: u32,
    pub ingest_max_depth: u64,
}

impl Standing {
    pub fn of(settings: &Settings) -> Self {
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            profile: settings.profile,
            api_workers: small(settings.api_workers()),
            concurrency_limit: small(settings.api_concurrency_limit),
            db_pool_min: settings.db_pool_min(),
            db_pool_max: settings.db_pool_max(),
            db_processes: settings.db_processes,
            redis_max_connections: small(settings.redis_max_connections),
            ws_max_connections: settings.ws_max_connections as u64,
            job_slots: small(settings.worker_concurrency),
            bodies_max_bytes: settings.bodies_max_bytes.0 as u64,
            password_hashes_max: small(settings.password_hashes_max()),
            ingest_max_depth: settings.ingest_max_depth,
        }
    }
}

/// All that the rules go by.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    pub machine: &'a Machine,
    pub postgres: Option<PostgresRoom>,
    pub redis: Option<RedisRoom>,
    pub load: &'a Load,
    pub standing: Standing,
}

impl Given<'_> {
    /// API processes of this machine now, as far as anybody tells: all that are heard of, on a single machine.
    fn processes_here(&self) -> u32 {
        self.load.api_processes.unwrap_or(1).max(1)
    }
}

/// Looks at this machine, both servers and the load, and sizes for it; `process` is what the asking process knows of itself.
pub async fn look(ctx: &Context, process: Option<OfProcess>, users: Option<u64>) -> Capacity {
    let (postgres, redis, load) = tokio::join!(servers::postgres(ctx), servers::redis(ctx), Load::look(ctx, process, users));
    let machine = Machine::read();
    let standing = Standing::of(&ctx.settings());
    sizing::size(&Given { machine: &machine, postgres, redis, load: &load, standing })
}
