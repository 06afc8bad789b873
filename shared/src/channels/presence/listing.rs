//! Lists of those who are present. They may be large, and everybody who comes back after an outage asks for them at once: a process reads the list of
//! a channel for all together who asked before it began, in slices that hold up nobody else, and over a connection of its own.

use super::{PRESENCE_LIST_BYTES_MAX, PRESENCE_LIST_MAX, PresenceStats, offered, stats};
use crate::{
    Context, Error,
    channels::{
        Channel, ChannelError, ClientInfo, Reader,
        turns::{Asker, Turns},
    },
};
use serde_json::value::RawValue;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    sync::Mutex as Turnstile,
    time::{Instant, timeout_at},
};

/// The infos of clients, as JSON and as they are kept, by the clients' ids.
pub type PresenceList = Arc<BTreeMap<Arc<str>, Box<RawValue>>>;

/// Entries that are asked for first, and bytes that the next slice should come to: Redis is busy with that for a fraction of a millisecond.
const FIRST_SLICE: usize = 64;
const SLICE_BYTES: usize = 128 << 10;

/// The lists that a process is reading.
#[derive(Debug)]
pub struct PresenceLists {
    turns: Turns,
    readings: Mutex<HashMap<Box<str>, Arc<Reading>>>,
}

impl Default for PresenceLists {
    fn default() -> Self {
        Self { turns: Turns::of_large("Too many lists of clients are being read."), readings: Mutex::default() }
    }
}

/// The list of one channel, which one of those who ask for it reads at a time.
type Reading = Turnstile<Option<Last>>;

#[derive(Debug)]
struct Last {
    begun: Instant,
    /// None if it is too long.
    list: Option<PresenceList>,
}

impl PresenceLists {
    fn ask<'a>(&'a self, channel: &'a str) -> Asking<'a> {
        let reading = Arc::clone(self.readings().entry(channel.into()).or_default());
        Asking { lists: self, channel, reading }
    }

    fn readings(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<Reading>>> {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who asks for the list of a channel. The last one takes it along.
struct Asking<'a> {
    lists: &'a PresenceLists,
    channel: &'a str,
    reading: Arc<Reading>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut readings = self.lists.readings();
        if Arc::strong_count(&self.reading) == 2 {
            readings.remove(self.channel);
        }
    }
}

/// Everybody who is present. `LimitExceeded` above [`PRESENCE_LIST_MAX`] and [`PRESENCE_LIST_BYTES_MAX`].
pub async fn list(ctx: &Context, reader: &Reader, channel: &Channel) -> Result<PresenceList, ChannelError> {
    offered(channel)?;
    let (asked, asker) = (Instant::now(), Asker::now(reader));
    let asking = ctx.presence_lists.ask(channel.name.as_str());
    let found = timeout_at(asker.until, async {
        let mut last = asking.reading.lock().await;
        if let Some(last) = last.as_ref().filter(|last| last.begun >= asked) {
            return Ok(last.list.clone());
        }
        let _turn = asking.lists.turns.take(asker).await?;
        let begun = Instant::now();
        let list = read(ctx, channel).await?;
        *last = Some(Last { begun, list: list.clone() });
        Ok::<_, ChannelError>(list)
    });
    let list = found.await.unwrap_or_else(|_| Err(asking.lists.turns.refusal().into()))?;
    list.ok_or(ChannelError::LimitExceeded("More clients, or more of their infos, are present than can be listed: ask for their number."))
}

/// None if they are more than may be listed.
async fn read(ctx: &Context, channel: &Channel) -> Result<Option<PresenceList>, ChannelError> {
    let PresenceStats { num_clients, .. } = stats(ctx, channel).await?;
    if num_clients > PRESENCE_LIST_MAX as u64 {
        return Ok(None);
    }
    let [clients, ..] = ctx.keys.channel_presence(channel.name.as_str());
    let mut connection = ctx.redis.bulk_connection();
    // Whoever is there all the time is among the slices at least once.
    let (mut entries, mut n_bytes, mut cursor, mut n_asked) = (HashMap::<String, String>::new(), 0, 0, FIRST_SLICE);
    loop {
        let mut scan = redis::cmd("HSCAN");
        scan.arg(&clients).arg(cursor).arg("COUNT").arg(n_asked);
        let slice: Vec<(String, String)>;
        (cursor, slice) = scan.query_async(&mut connection).await?;
        for (client, entry) in slice {
            let info = info_in(&entry)?.to_owned();
            n_bytes += client.len() + info.len();
            let n_client = client.len();
            if let Some(before) = entries.insert(client, info) {
                n_bytes -= n_client + before.len();
            }
        }
        if entries.len() > PRESENCE_LIST_MAX || n_bytes > PRESENCE_LIST_BYTES_MAX {
            return Ok(None);
        }
        if cursor == 0 {
            break;
        }
        // Where many have left, slices are empty at first, and say nothing of the size of entries.
        n_asked = (SLICE_BYTES * entries.len()).checked_div(n_bytes).map_or(FIRST_SLICE, |n_fit| n_fit.clamp(1, PRESENCE_LIST_MAX));
    }
    entries.into_values().map(present).collect::<Result<_, _>>().map(|list| Some(Arc::new(list)))
}

/// The info in an entry: `<length of the user's id>:<user><info>`.
fn info_in(entry: &str) -> Result<&str, Error> {
    let info = entry.split_once(':').and_then(|(n_user, rest)| rest.get(n_user.parse().ok()?..));
    info.ok_or_else(|| Error::internal(format!("no client is present as {entry:?}")))
}

fn present(info: String) -> Result<(Arc<str>, Box<RawValue>), ChannelError> {
    let ClientInfo { client, .. } = serde_json::from_str(&info).map_err(Error::internal)?;
    Ok((client, RawValue::from_string(info).map_err(Error::internal)?))
}
