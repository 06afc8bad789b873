//! How fast a queue goes: counters that the scripts keep, sampled by the leader; and how long jobs waited for a worker, in
//! histograms that all workers add to.
//!
//! Nothing here is exact, and nothing depends on it: what Redis loses begins anew.

use super::scripts::QueueKeys;
use crate::redis::Connection;
use crate::{
    Context, Error, Result,
    clock::{from_unix_ms, unix_ms},
    jobs::QueueName,
    keys::Keys,
};
use redis::Pipeline;
use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};
use time::OffsetDateTime;

/// Rates are those of the last ten seconds.
const WINDOW: Duration = Duration::from_secs(10);
/// Rates that nobody has renewed for so long are not known.
const RATES_TTL_MS: i64 = 15_000;
/// Two histograms, of this and of the last minute, tell the quantiles.
const TURN: Duration = Duration::from_mins(1);
const PICKUP_TTL_MS: i64 = 180_000;
/// Four buckets to each doubling, from 0.1 ms to 25 minutes: a quantile is at most a fifth too high.
const BUCKETS: usize = 96;
const BUCKETS_PER_DOUBLING: f64 = 4.0;
const SHORTEST_MS: f64 = 0.1;

/// The keys of this file: the rates, and the histograms of this and of the last turn.
pub(super) fn keys(keys: &Keys, queue: &QueueName) -> [String; 3] {
    ["rates", "pickup", "pickup:before"].map(|part| keys.queue(queue.as_str(), part))
}

/// What is known of a queue's speed; `None` is not known at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    pub in_per_s: Option<f64>,
    pub out_per_s: Option<f64>,
    pub pickup_p50_ms: Option<f64>,
    pub pickup_p99_ms: Option<f64>,
    pub last_processed_at: Option<OffsetDateTime>,
}

/// How long the jobs of one queue waited, since it was last told.
#[derive(Debug, Default)]
pub(super) struct Pickups(HashMap<usize, u64>);

impl Pickups {
    pub(super) fn note(&mut self, waited: Duration) {
        *self.0.entry(bucket(waited)).or_default() += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "cut to the buckets there are")]
fn bucket(waited: Duration) -> usize {
    let doublings = (waited.as_secs_f64() * 1_000.0 / SHORTEST_MS).log2();
    ((doublings * BUCKETS_PER_DOUBLING).ceil().max(0.0) as usize).min(BUCKETS - 1)
}

/// The longest wait that falls into a bucket.
#[expect(clippy::cast_precision_loss, reason = "there are 96")]
fn longest_ms(bucket: usize) -> f64 {
    SHORTEST_MS * (bucket as f64 / BUCKETS_PER_DOUBLING).exp2()
}

/// Adds what a worker saw to what all saw.
pub(super) async fn add(ctx: &Context, seen: Vec<(QueueName, Pickups)>) -> Result<()> {
    let mut pipe = redis::pipe();
    for (queue, pickups) in seen {
        let [_, pickup, _] = keys(&ctx.keys, &queue);
        for (bucket, n_jobs) in pickups.0 {
            pipe.hincr(&pickup, bucket, n_jobs).ignore();
        }
        pipe.pexpire(&pickup, PICKUP_TTL_MS).ignore();
    }
    Ok(pipe.exec_async(&mut ctx.redis.connection()).await?)
}

/// Reads what is known; one round trip.
pub async fn rates(ctx: &Context, queue: &QueueName) -> Result<Rates> {
    let [rates, pickup, before] = keys(&ctx.keys, queue);
    let buckets = (0..BUCKETS).collect::<Vec<_>>();
    let mut pipe = redis::pipe();
    pipe.cmd("HMGET").arg(&rates).arg("in").arg("out");
    pipe.hget(QueueKeys::new(&ctx.keys, queue).cfg(), "last_out");
    pipe.cmd("HMGET").arg(&pickup).arg(&buckets).cmd("HMGET").arg(&before).arg(&buckets);
    type Answer = (Vec<Option<f64>>, Option<i64>, Vec<Option<u64>>, Vec<Option<u64>>);
    let (rates, last_out, now, before): Answer = pipe.query_async(&mut ctx.redis.connection()).await?;
    let counts = now.iter().zip(&before).map(|(now, before)| now.unwrap_or(0) + before.unwrap_or(0)).collect::<Vec<_>>();
    Ok(Rates {
        in_per_s: rates.first().copied().flatten(),
        out_per_s: rates.get(1).copied().flatten(),
        pickup_p50_ms: quantile_ms(&counts, 50),
        pickup_p99_ms: quantile_ms(&counts, 99),
        last_processed_at: last_out.and_then(from_unix_ms),
    })
}

fn quantile_ms(counts: &[u64], percent: u64) -> Option<f64> {
    let total = counts.iter().sum::<u64>();
    let rank = (total * percent).div_ceil(100).max(1);
    let mut seen = 0;
    let at = counts.iter().position(|count| {
        seen += count;
        seen >= rank
    })?;
    Some((longest_ms(at) * 100.0).round() / 100.0)
}

/// One queue's counters at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    n_in: u64,
    n_out: u64,
}

/// What the leader remembers between samples.
#[derive(Debug, Default)]
pub struct Sampler {
    windows: HashMap<QueueName, VecDeque<Sample>>,
    turned_at: Option<Instant>,
}

impl Sampler {
    /// Looks at every queue's counters and writes its rates; two round trips in all, and one more each minute.
    pub async fn sample(&mut self, ctx: &Context, queues: &[QueueName]) -> Result<()> {
        self.windows.retain(|queue, _| queues.contains(queue));
        let mut connection = ctx.redis.connection();
        for queues in queues.chunks(super::IDS_MAX) {
            self.sample_some(ctx, &mut connection, queues).await?;
        }
        if self.turned_at.is_none_or(|at| at.elapsed() >= TURN) {
            self.turned_at = Some(Instant::now());
            turn(ctx, queues).await?;
        }
        Ok(())
    }

    async fn sample_some(&mut self, ctx: &Context, connection: &mut Connection, queues: &[QueueName]) -> Result<()> {
        let mut reads = redis::pipe();
        for queue in queues {
            reads.cmd("HMGET").arg(QueueKeys::new(&ctx.keys, queue).cfg()).arg("n_in").arg("n_out");
        }
        let counters: Vec<(Option<u64>, Option<u64>)> = reads.query_async(connection).await?;
        let at = Instant::now();
        let mut writes = redis::pipe();
        for (queue, (n_in, n_out)) in queues.iter().zip(counters) {
            let sample = Sample { at, n_in: n_in.unwrap_or(0), n_out: n_out.unwrap_or(0) };
            self.take(ctx, queue, sample, &mut writes);
        }
        if writes.is_empty() {
            return Ok(());
        }
        writes.exec_async(connection).await.map_err(Error::from)
    }

    fn take(&mut self, ctx: &Context, queue: &QueueName, now: Sample, writes: &mut Pipeline) {
        let window = self.windows.entry(queue.clone()).or_default();
        // Counters that fell are those of another Redis.
        if window.back().is_some_and(|last| now.n_in < last.n_in || now.n_out < last.n_out) {
            window.clear();
        }
        let was_processed = window.back().is_some_and(|last| now.n_out > last.n_out);
        window.push_back(now);
        while window.len() > 2 && window.get(1).is_some_and(|second| now.at - second.at >= WINDOW) {
            window.pop_front();
        }
        if was_processed {
            writes.hset(QueueKeys::new(&ctx.keys, queue).cfg(), "last_out", unix_ms(ctx.clock.now())).ignore();
        }
        let Some(first) = window.front().filter(|first| now.at > first.at) else { return };
        let seconds = (now.at - first.at).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let per_s = |count: u64| (count as f64 / seconds * 100.0).round() / 100.0;
        let [rates, ..] = keys(&ctx.keys, queue);
        writes.hset_multiple(&rates, &[("in", per_s(now.n_in - first.n_in)), ("out", per_s(now.n_out - first.n_out))]).ignore();
        writes.pexpire(&rates, RATES_TTL_MS).ignore();
    }
}

/// This minute's histogram becomes the last one's.
async fn turn(ctx: &Context, queues: &[QueueName]) -> Result<()> {
    let mut connection = ctx.redis.connection();
    for queue in queues {
        let [_, pickup, before] = keys(&ctx.keys, queue);
        // Without this minute's there is nothing to rename, and the last one's expires by itself.
        let renamed = redis::cmd("RENAME").arg(&pickup).arg(&before).exec_async(&mut connection).await;
        if let Err(error) = renamed.map_err(Error::from)
            && error.code == crate::Code::RedisUnavailable
        {
            return Err(error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::nothing(0.0, 0.1)]
    #[case::shortest(0.1, 0.1)]
    #[case::short(1.0, 1.2)]
    #[case::long(60_000.0, 72_000.0)]
    fn a_wait_is_told_at_most_a_fifth_too_long(#[case] waited_ms: f64, #[case] at_most: f64) {
        let told = longest_ms(bucket(Duration::from_secs_f64(waited_ms / 1_000.0)));
        assert!(told >= waited_ms * 0.999 && told <= at_most, "{told}");
    }

    #[test]
    fn the_longest_wait_has_a_bucket_too() {
        assert_eq!(bucket(Duration::from_hours(10)), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_of_all_that_was_counted() {
        let mut counts = vec![0; BUCKETS];
        assert_eq!(quantile_ms(&counts, 50), None);
        counts[0] = 98;
        counts[40] = 2;
        assert_eq!((quantile_ms(&counts, 50), quantile_ms(&counts, 99)), (Some(0.1), Some(102.4)));
    }
}
