//! Accepting: points gathered by shard, and appended to their streams in one pipelined call.
//!
//! When [`Appending::send`] returns, the points are in Redis. After an error some of them may be there all the same: sending them again does
//! no harm, since a point is known by its track and time, and an entry by its id.

use super::{
    Point,
    entry::{EntryWriter, Sender},
    shard,
};
use crate::{
    Caller, Context, Result,
    clock::unix_ms,
    ids::UserId,
    telemetry::metrics::{APP_MESSAGES, INGEST_ACCEPTED},
};

/// Points on their way into the streams.
#[derive(Debug)]
pub struct Appending {
    sender: Sender,
    /// By shard; the last of each is written to.
    entries: Vec<Vec<EntryWriter>>,
    n_points: usize,
}

impl Appending {
    pub fn new(ctx: &Context, caller: &Caller) -> Self {
        Self::from_sender(ctx, sender(ctx, caller))
    }

    /// In the name of whom nobody asks at the moment, and who may write to everybody's tracks or not.
    pub(super) fn in_name_of(ctx: &Context, user_id: UserId, for_all: bool) -> Self {
        Self::from_sender(ctx, Sender { user_id, for_all, received_at_ms: unix_ms(ctx.clock.now()) })
    }

    pub(super) fn from_sender(ctx: &Context, sender: Sender) -> Self {
        Self { sender, entries: (0..shard::count(ctx)).map(|_| Vec::new()).collect(), n_points: 0 }
    }

    pub fn add(&mut self, point: &Point<'_>) {
        let n_shards = u16::try_from(self.entries.len()).expect("shards are at most 64");
        let entries = &mut self.entries[usize::from(shard::of(point.track_id, n_shards))];
        match entries.last_mut().filter(|entry| !entry.is_full()) {
            Some(entry) => entry.add(point),
            None => {
                let mut entry = EntryWriter::new(self.sender);
                entry.add(point);
                entries.push(entry);
            }
        }
        self.n_points += 1;
    }

    /// Points that were added and not sent.
    pub fn n_points(&self) -> usize {
        self.n_points
    }

    /// Appends what was added; more may be added afterwards. After an error all of it is still here, to be sent again.
    pub async fn send(&mut self, ctx: &Context) -> Result<()> {
        if self.n_points == 0 {
            return Ok(());
        }
        let mut pipe = redis::pipe();
        for (shard, entries) in (0..).zip(&mut self.entries) {
            let (stream, depth) = (ctx.keys.points_stream(shard), ctx.keys.points_depth(shard));
            for (bytes, n_points) in entries.iter_mut().map(EntryWriter::sealed) {
                // Counted first: nothing can be taken away again before it was counted.
                pipe.cmd("INCRBY").arg(&depth).arg(n_points).ignore();
                pipe.cmd("XADD").arg(&stream).arg("*").arg("b").arg(bytes).ignore();
            }
        }
        pipe.exec_async(&mut ctx.redis.connection()).await?;
        self.entries.iter_mut().for_each(Vec::clear);
        let n_points = std::mem::take(&mut self.n_points) as u64;
        ctx.points.depth.add(self.sender.user_id, n_points);
        metrics::counter!(INGEST_ACCEPTED, "to" => "redis").increment(n_points);
        metrics::counter!(APP_MESSAGES).increment(n_points);
        Ok(())
    }
}

/// Who sends points now.
pub(super) fn sender(ctx: &Context, caller: &Caller) -> Sender {
    Sender { user_id: caller.user_id, for_all: caller.sees_all(), received_at_ms: unix_ms(ctx.clock.now()) }
}
