//! How fast a queue may be worked off: how many of its jobs are leased at once, how many per time, and how many per concurrency key.

use super::{QueueKeys, scripts};
use crate::{
    Context, Result,
    jobs::{QueueName, queues::Rate},
};

/// The limits of a queue; `None` is no limit, but for `per_key`, of which it is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Jobs leased at once, over all workers.
    pub concurrency: Option<i32>,
    /// Jobs leased per time.
    pub rate: Option<Rate>,
    /// Jobs of one concurrency key that are leased at once.
    pub per_key: Option<i32>,
}

impl Limits {
    /// Whether jobs may be ready and none be leased although all is well.
    pub fn may_hold_back(&self) -> bool {
        self.concurrency.is_some() || self.rate.is_some()
    }

    /// As the scripts take them: `<concurrency>:<rate>:<per_ms>:<per key>`, nothing where there is no limit.
    pub(super) fn text(&self) -> String {
        if *self == Self::default() {
            return String::new();
        }
        let number = |limit: Option<i32>| limit.map(|limit| limit.to_string()).unwrap_or_default();
        let (rate, per_ms) = self.rate.map_or((None, None), |rate| (Some(rate.limit), Some(rate.per_ms)));
        [self.concurrency, rate, per_ms, self.per_key].map(number).join(":")
    }
}

/// Makes changed limits felt at once; the row in `queues` is the truth, which the leader applies every few seconds.
pub async fn set_limits(ctx: &Context, queue: &QueueName, limits: &Limits) -> Result<()> {
    let keys = QueueKeys::new(&ctx.keys, queue);
    let mut connection = ctx.redis.connection();
    let cmd = match limits.text() {
        text if text.is_empty() => {
            let mut cmd = redis::cmd("HDEL");
            cmd.arg(keys.cfg()).arg("limits");
            cmd
        }
        text => {
            let mut cmd = redis::cmd("HSET");
            cmd.arg(keys.cfg()).arg("limits").arg(text);
            cmd
        }
    };
    let _: i64 = cmd.query_async(&mut connection).await?;
    // More may be leased than before.
    scripts::ring(&mut connection, &keys).await
}
