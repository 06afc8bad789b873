//! Successes on their way through another process, which has connections to PostgreSQL: a child that lives for a thousand short
//! jobs would spend more on signing in there than on its jobs. Whatever is not a plain success, and whatever the other process
//! cannot write, the child writes on a connection of its own.

use super::{settle::Settler, store::Successes, token::Nonce};
use crate::{Context, ids::JobId};
use std::{
    collections::HashSet,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Mutex, MutexGuard},
};
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Longest batch that is relayed, in bytes.
pub const BATCH_MAX: usize = 4 << 20;

/// Those of a batch that were not written, which says nothing of why; `None` when nothing is known of any.
pub type Unwritten = Option<Vec<JobId>>;

/// The way to the process that writes.
pub trait Relay: fmt::Debug + Send + Sync {
    fn write(&self, batch: Vec<u8>) -> Pin<Box<dyn Future<Output = Unwritten> + Send + '_>>;
}

/// The connections of the process that writes for others.
#[derive(Debug)]
pub struct Scribes {
    idle: Mutex<Vec<Settler>>,
    permits: Semaphore,
}

impl Scribes {
    pub fn new(n_connections: usize) -> Self {
        Self { idle: Mutex::default(), permits: Semaphore::new(n_connections) }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Settler>> {
        self.idle.lock().expect("nothing panics while it holds this lock")
    }

    /// Writes a batch that a [`Relay`] was given.
    pub async fn write(&self, ctx: &Context, batch: &[u8]) -> Unwritten {
        let successes = decode(batch)?;
        let _permit = self.permits.acquire().await.ok()?;
        let mut settler = self.idle().pop().unwrap_or_default();
        let written = settler.succeed(ctx, &successes).await;
        self.idle().push(settler);
        match written {
            Ok(written) => {
                let written: HashSet<Uuid> = written.into_iter().map(|written| written.id.0).collect();
                Some(successes.ids.iter().filter(|id| !written.contains(id)).map(|id| JobId(*id)).collect())
            }
            Err(error) => {
                tracing::debug!(%error, n_outcomes = successes.ids.len(), "a child's outcomes could not be written for it");
                None
            }
        }
    }
}

/// Absent, in the place of a time or a length.
const ABSENT: i64 = i64::MIN;
const NO_RESULT: u32 = u32::MAX;

/// The holder, then each success: id, attempt, start and end in microseconds, result. `None` when it is longer than is relayed.
pub(super) fn encode(successes: &Successes<'_>) -> Option<Vec<u8>> {
    let mut batch = Vec::with_capacity(64 + successes.ids.len() * 96);
    batch.extend(successes.nonce.0.as_bytes());
    put_text(&mut batch, Some(successes.worker))?;
    for at in 0..successes.ids.len() {
        batch.extend(successes.ids[at].as_bytes());
        batch.extend(successes.attempts[at].to_le_bytes());
        batch.extend(successes.started_ats[at].map_or(ABSENT, micros).to_le_bytes());
        batch.extend(micros(successes.finished_ats[at]).to_le_bytes());
        put_text(&mut batch, successes.results[at])?;
    }
    (batch.len() <= BATCH_MAX).then_some(batch)
}

fn put_text(batch: &mut Vec<u8>, text: Option<&str>) -> Option<()> {
    let length = text.map_or(Some(NO_RESULT), |text| u32::try_from(text.len()).ok())?;
    batch.extend(length.to_le_bytes());
    batch.extend(text.unwrap_or_default().as_bytes());
    Some(())
}

/// PostgreSQL keeps no more.
fn micros(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap_or(ABSENT)
}

fn decode(mut batch: &[u8]) -> Option<Successes<'_>> {
    let nonce = Nonce(Uuid::from_bytes(take(&mut batch)?));
    let worker = take_text(&mut batch)??;
    let mut successes = Successes::empty(nonce, worker);
    while !batch.is_empty() {
        successes.ids.push(Uuid::from_bytes(take(&mut batch)?));
        successes.attempts.push(i32::from_le_bytes(take(&mut batch)?));
        successes.started_ats.push(at(i64::from_le_bytes(take(&mut batch)?)));
        successes.finished_ats.push(at(i64::from_le_bytes(take(&mut batch)?))?);
        successes.results.push(take_text(&mut batch)?);
    }
    Some(successes)
}

fn at(micros: i64) -> Option<OffsetDateTime> {
    if micros == ABSENT { None } else { OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).ok() }
}

fn take<const N: usize>(batch: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = batch.split_first_chunk()?;
    *batch = rest;
    Some(*head)
}

fn take_text<'a>(batch: &mut &'a [u8]) -> Option<Option<&'a str>> {
    let length = u32::from_le_bytes(take(batch)?);
    if length == NO_RESULT {
        return Some(None);
    }
    let (text, rest) = batch.split_at_checked(usize::try_from(length).ok()?)?;
    *batch = rest;
    std::str::from_utf8(text).ok().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_relayed_arrives_as_it_was() {
        let now = OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap() + time::Duration::microseconds(123_456);
        let successes = Successes {
            ids: vec![Uuid::now_v7(), Uuid::now_v7()],
            attempts: vec![1, 7],
            results: vec![Some("{\"a\":\"é\"}"), None],
            started_ats: vec![Some(now), None],
            finished_ats: vec![now, now],
            ..Successes::empty(Nonce::new(), "worker")
        };
        let batch = encode(&successes).unwrap();
        let arrived = decode(&batch).unwrap();
        assert_eq!(arrived, successes);
        for cut in 1..batch.len() {
            let whole = decode(&batch[..cut]).map(|part| part.ids.len());
            assert!(whole.is_none_or(|n| n < 2), "a batch that is cut off is not taken for a whole one");
        }
    }
}
