//! One shard's consumer: takes entries from the stream, has them stored, and only then removes exactly these.

use super::{batch::Batch, breaker::Breaker, writing};
use crate::{Context, Error, Result, clock::unix_ms, points::entry::Entry, redis::Connection, telemetry::metrics::INGEST_LAG};
use redis::Script;
use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

static ACKNOWLEDGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("acknowledge.lua")));

/// The one consumer group of each stream.
const GROUP: &str = "store";
/// Entries of one read: few where they hold many points, more where they hold one.
const ENTRIES_MIN: usize = 4;
const ENTRIES_MAX: usize = 256;
/// Before Redis is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(250);

/// An entry as it is taken from the stream.
pub(super) struct Taken {
    pub(super) id: String,
    pub(super) bytes: Vec<u8>,
}

type Entries = Vec<(String, Option<(String, Vec<u8>)>)>;

pub(super) struct Consumer {
    ctx: Context,
    name: String,
    stream: String,
    depth: String,
    breaker: Arc<Breaker>,
    /// Its own, since a read that waits would hold up everybody else. `None` until it is first needed.
    connection: Option<Connection>,
    /// Whether there may be entries that this consumer was given and has not seen: an answer got lost.
    may_have_pending: bool,
    claimed_at: Instant,
    n_entries: usize,
}

impl Consumer {
    pub(super) fn new(ctx: Context, shard: u16, name: String, breaker: Arc<Breaker>) -> Self {
        let (stream, depth) = (ctx.keys.points_stream(shard), ctx.keys.points_depth(shard));
        let claimed_at = Instant::now();
        Self { ctx, name, stream, depth, breaker, connection: None, may_have_pending: true, claimed_at, n_entries: ENTRIES_MIN }
    }

    /// Ends after the batch during which it is told to stop.
    pub(super) async fn run(mut self, stop: &CancellationToken) {
        let mut has_group = false;
        while !stop.is_cancelled() {
            let done = async {
                if !has_group {
                    self.make_group().await?;
                    has_group = true;
                }
                self.round(stop).await
            };
            if let Err(error) = done.await {
                tracing::debug!(%error, stream = self.stream, "points are not taken at the moment");
                // Redis may have lost the group, or given entries in an answer that got lost.
                (has_group, self.may_have_pending) = (false, true);
                tokio::select! {
                    () = tokio::time::sleep(RETRY_EVERY) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
        if let Err(error) = self.leave().await {
            tracing::debug!(%error, "a consumer that has gone is still listed");
        }
    }

    async fn make_group(&mut self) -> Result<()> {
        let mut cmd = redis::cmd("XGROUP");
        cmd.arg("CREATE").arg(&self.stream).arg(GROUP).arg(0).arg("MKSTREAM");
        match cmd.exec_async(&mut self.ctx.redis.connection()).await {
            Err(error) if error.code() != Some("BUSYGROUP") => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    async fn round(&mut self, stop: &CancellationToken) -> Result<()> {
        let taken = if self.may_have_pending {
            let pending = self.read_pending().await?;
            self.may_have_pending = !pending.is_empty();
            pending
        } else if self.claimed_at.elapsed() >= self.claim_after() / 2 {
            let claimed = self.claim().await?;
            if claimed.is_empty() {
                self.claimed_at = Instant::now();
            }
            claimed
        } else {
            self.gather().await?
        };
        if taken.is_empty() { Ok(()) } else { self.store(taken, stop).await }
    }

    fn claim_after(&self) -> Duration {
        Duration::from_millis(self.ctx.settings().ingest_claim_ms)
    }

    /// What was given to this consumer and not acknowledged.
    async fn read_pending(&mut self) -> Result<Vec<Taken>> {
        self.read("0", None).await
    }

    /// New entries: whatever is there, and what comes within the time of a batch until it is full.
    async fn gather(&mut self) -> Result<Vec<Taken>> {
        let (most, patience, block) = {
            let settings = self.ctx.settings();
            let block = Duration::from_millis(settings.redis_acquire_timeout_ms) / 2;
            (settings.ingest_batch_max, Duration::from_millis(settings.ingest_batch_ms), block)
        };
        let mut taken = self.read(">", Some(block)).await?;
        let began = Instant::now();
        let mut n_points = count(&taken);
        let mut n_last = taken.len();
        while n_last > 0 && n_points < most {
            let rest = patience.saturating_sub(began.elapsed());
            if rest < Duration::from_millis(1) {
                break;
            }
            let Ok(more) = self.read(">", Some(rest.min(block))).await else {
                // What was taken is stored all the same.
                self.may_have_pending = true;
                break;
            };
            n_last = more.len();
            n_points += count(&more);
            taken.extend(more);
        }
        if let Some(per_entry) = n_points.checked_div(taken.len()) {
            self.n_entries = (most / per_entry.max(1)).clamp(ENTRIES_MIN, ENTRIES_MAX);
        }
        Ok(taken)
    }

    async fn read(&mut self, from: &str, block: Option<Duration>) -> Result<Vec<Taken>> {
        let mut cmd = redis::cmd("XREADGROUP");
        cmd.arg("GROUP").arg(GROUP).arg(&self.name).arg("COUNT").arg(self.n_entries);
        if let Some(block) = block {
            cmd.arg("BLOCK").arg(u64::try_from(block.as_millis()).expect("a second at most").max(1));
        }
        cmd.arg("STREAMS").arg(&self.stream).arg(from);
        let answer: Option<Vec<(String, Entries)>> = cmd.query_async(self.connection()?).await?;
        Ok(taken(answer.unwrap_or_default().into_iter().flat_map(|(_, entries)| entries)))
    }

    /// Entries that another consumer took long ago and did not store.
    async fn claim(&mut self) -> Result<Vec<Taken>> {
        let mut cmd = redis::cmd("XAUTOCLAIM");
        let idle_ms = u64::try_from(self.claim_after().as_millis()).expect("an hour at most");
        cmd.arg(&self.stream).arg(GROUP).arg(&self.name).arg(idle_ms).arg("0-0").arg("COUNT").arg(self.n_entries);
        let (_, entries, _): (String, Entries, Vec<String>) = cmd.query_async(self.connection()?).await?;
        if !entries.is_empty() {
            tracing::info!(n_entries = entries.len(), stream = self.stream, "points that another process took are stored by this one");
        }
        Ok(taken(entries))
    }

    fn connection(&mut self) -> Result<&mut Connection> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.ctx.redis.own_connection(&self.ctx.settings())?,
        };
        Ok(self.connection.insert(connection))
    }

    /// Stores what was taken, however long that takes, and then removes it from the stream.
    async fn store(&mut self, taken: Vec<Taken>, stop: &CancellationToken) -> Result<()> {
        let most = self.ctx.settings().ingest_batch_max;
        let mut rest = &taken[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(n_within(rest, most));
            rest = later;
            let batch = Batch::read(now);
            // Told to stop while PostgreSQL is away: the entries stay pending, and are another's.
            let Some(stored) = writing::until_stored(&self.ctx, &self.breaker, &batch, stop).await else { return Ok(()) };
            self.acknowledge(now).await?;
            if let Some(received_at_ms) = batch.received_at_ms {
                let lag_ms = unix_ms(self.ctx.clock.now()) - received_at_ms;
                metrics::histogram!(INGEST_LAG).record(lag_ms as f64 / 1_000.0);
            }
            writing::tell(&self.ctx, &stored).await;
        }
        Ok(())
    }

    async fn acknowledge(&self, taken: &[Taken]) -> Result<()> {
        let mut call = ACKNOWLEDGE.key(&self.stream);
        call.key(&self.depth).arg(GROUP);
        for entry in taken {
            call.arg(&entry.id).arg(Entry::n_points(&entry.bytes));
        }
        let _: i64 = call.invoke_async(&mut self.ctx.redis.connection()).await?;
        Ok(())
    }

    /// A consumer that ends in order leaves nothing behind; one that still has something pending stays listed, so that it is claimed.
    async fn leave(&mut self) -> Result<()> {
        let mut cmd = redis::cmd("XPENDING");
        cmd.arg(&self.stream).arg(GROUP).arg("-").arg("+").arg(1).arg(&self.name);
        let pending: Vec<redis::Value> = cmd.query_async(&mut self.ctx.redis.connection()).await?;
        if !pending.is_empty() {
            return Ok(());
        }
        let mut cmd = redis::cmd("XGROUP");
        cmd.arg("DELCONSUMER").arg(&self.stream).arg(GROUP).arg(&self.name);
        cmd.exec_async(&mut self.ctx.redis.connection()).await.map_err(Error::from)
    }
}

/// How many of the entries make a batch of at most `most` points, at least one.
fn n_within(taken: &[Taken], most: usize) -> usize {
    let mut n_points = 0;
    let n = taken.iter().take_while(|entry| {
        n_points += usize::from(Entry::n_points(&entry.bytes));
        n_points <= most
    });
    n.count().max(1)
}

fn count(taken: &[Taken]) -> usize {
    taken.iter().map(|entry| usize::from(Entry::n_points(&entry.bytes))).sum()
}

/// Entries that were deleted in the meantime have no fields: no bytes, and so no points.
fn taken(entries: impl IntoIterator<Item = (String, Option<(String, Vec<u8>)>)>) -> Vec<Taken> {
    entries.into_iter().map(|(id, field)| Taken { id, bytes: field.map(|(_, bytes)| bytes).unwrap_or_default() }).collect()
}
