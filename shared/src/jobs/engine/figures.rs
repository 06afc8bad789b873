//! What Redis tells of many queues at once, for metrics: two round trips however many there are.

use super::{
    Depths,
    scripts::{QueueKeys, id_of},
    watchdog::STALLED_SINCE,
};
use crate::{Context, Error, Result, ids::JobId, jobs::QueueName};

/// Of each list of ready jobs, so many are looked at: the first may be leftovers of jobs that are gone.
const HEADS: isize = 3;

/// How one queue stands.
#[derive(Debug, Clone, Default)]
pub(in crate::jobs) struct Figures {
    pub(in crate::jobs) depths: Depths,
    pub(in crate::jobs) n_in: u64,
    pub(in crate::jobs) n_out: u64,
    pub(in crate::jobs) last_out_ms: i64,
    pub(in crate::jobs) is_stalled: bool,
    /// Those that wait longest, of each priority.
    pub(in crate::jobs) heads: Vec<JobId>,
}

/// In the order of `queues`.
pub(in crate::jobs) async fn figures(ctx: &Context, queues: &[QueueName]) -> Result<Vec<Figures>> {
    let keys: Vec<QueueKeys> = queues.iter().map(|queue| QueueKeys::new(&ctx.keys, queue)).collect();
    let mut pipe = redis::pipe();
    for keys in &keys {
        pipe.zcard(keys.delayed()).zcard(keys.leased()).hlen(keys.att());
        pipe.cmd("HMGET").arg(keys.cfg()).arg(&["n_in", "n_out", "last_out", STALLED_SINCE]);
    }
    let mut connection = ctx.redis.connection();
    type Counted = (u64, u64, u64, (Option<u64>, Option<u64>, Option<i64>, Option<i64>));
    let counted: Vec<redis::Value> = pipe.query_async(&mut connection).await?;
    let mut figures = Vec::with_capacity(keys.len());
    for four in counted.chunks_exact(4) {
        let (scheduled, running, all, (n_in, n_out, last_out, stalled)): Counted =
            redis::from_redis_value(redis::Value::Array(four.to_vec())).map_err(Error::internal)?;
        figures.push(Figures {
            depths: Depths { scheduled, running, queued: all.saturating_sub(scheduled + running) },
            n_in: n_in.unwrap_or(0),
            n_out: n_out.unwrap_or(0),
            last_out_ms: last_out.unwrap_or(0),
            is_stalled: stalled.is_some(),
            heads: Vec::new(),
        });
    }
    let mut heads = redis::pipe();
    for (keys, _) in keys.iter().zip(&figures).filter(|(_, figures)| figures.depths.queued > 0) {
        for list in keys.ready().iter().map(String::as_str).chain([keys.quarantine()]) {
            heads.lrange(list, 0, HEADS - 1);
        }
    }
    if heads.is_empty() {
        return Ok(figures);
    }
    let lists: Vec<Vec<String>> = heads.query_async(&mut connection).await?;
    for (figures, lists) in figures.iter_mut().filter(|figures| figures.depths.queued > 0).zip(lists.chunks_exact(11)) {
        figures.heads = lists.iter().flatten().map(|id| id_of(id)).collect::<Result<_>>()?;
    }
    Ok(figures)
}
