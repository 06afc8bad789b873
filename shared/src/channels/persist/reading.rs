//! History beyond what Redis keeps.

use super::store::{self, Span};
use crate::{
    Context, Error, Result,
    channels::{Channel, ChannelError, Direction, Filter, HISTORY_READ_MAX, History, Publication, history::Read},
};
use bytes::Bytes;
use std::{collections::BTreeMap, sync::Arc};

/// A publication of any of a channel's epochs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    pub epoch: Arc<str>,
    pub publication: Publication,
}

/// Where a reading of the archive goes on: before the publication that was published then and had this offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveCursor {
    pub published_at_ms: i64,
    pub offset: u64,
}

/// What was saved of a channel, across its epochs, newest first. The last second's publications may not be saved yet: those are in
/// the channel's [`history`](crate::channels::history()).
pub async fn archive(ctx: &Context, channel: &Channel, before: Option<ArchiveCursor>, limit: u32) -> Result<Vec<Archived>, ChannelError> {
    if !channel.namespace.persist {
        return Err(ChannelError::NotAvailable);
    }
    // Later than anything that was published, and a time that PostgreSQL has as well.
    const END_OF_TIME_MS: i64 = 253_402_300_799_000;
    let before = before.map_or((END_OF_TIME_MS, i64::MAX), |cursor| (cursor.published_at_ms, signed(cursor.offset)));
    let archived = store::archived(&ctx.pg, channel.name.as_str(), before, i64::from(limit.min(HISTORY_READ_MAX))).await?;
    Ok(archived.into_iter().map(|row| Archived { epoch: row.epoch.into(), publication: row.publication }).collect())
}

/// `read`, with what Redis has let go of. Without the database it is only what Redis has: a reader sees by the offsets that there
/// was more.
pub(in crate::channels) async fn complete(ctx: &Context, channel: &Channel, filter: &Filter, read: Read) -> History {
    let Read { mut history, unsaved_ms } = read;
    let Some(gap) = Gap::of(filter, &history) else { return history };
    match gap.fill(ctx, channel, &history, unsaved_ms).await {
        Ok(older) => gap.join(older, &mut history),
        Err(error) => tracing::warn!(%error, channel = %channel.name, "history is only what Redis keeps"),
    }
    history
}

/// The offsets that were asked for and that Redis does not have: those strictly between two.
struct Gap {
    after: u64,
    below: u64,
    limit: usize,
    direction: Direction,
}

impl Gap {
    fn of(filter: &Filter, history: &History) -> Option<Self> {
        let limit = usize::try_from(filter.limit.min(HISTORY_READ_MAX)).expect("300 is small");
        let (first, last) = (history.publications.first(), history.publications.last());
        let beyond_top = history.position.offset + 1;
        let since = filter.since.as_ref().map(|since| since.offset);
        let (after, below, limit) = match filter.direction {
            // Forward without a position begins where the kept history does.
            Direction::Forward => (since?, first.map_or(beyond_top, |first| first.offset), limit),
            Direction::Reverse => {
                let below = last.map_or(since.unwrap_or(beyond_top).min(beyond_top), |last| last.offset);
                (0, below, limit - history.publications.len())
            }
        };
        (limit > 0 && below > after + 1).then_some(Self { after, below, limit, direction: filter.direction })
    }

    /// What is unsaved is read before what is saved: a publication is always in one of them, and moves only this way.
    async fn fill(&self, ctx: &Context, channel: &Channel, history: &History, unsaved_ms: Option<u64>) -> Result<Vec<Publication>> {
        let mut found = BTreeMap::new();
        if let Some(unsaved_ms) = unsaved_ms {
            found.extend(self.unsaved(ctx, channel, unsaved_ms).await?.into_iter().map(|publication| (publication.offset, publication)));
        }
        let (channel, epoch) = (channel.name.as_str(), &*history.position.epoch);
        let span = Span { channel, epoch, after: signed(self.after), below: signed(self.below) };
        let limit = i64::try_from(self.limit).expect("at most 300");
        let saved = match self.direction {
            Direction::Forward => store::oldest(&ctx.pg, span, limit).await?,
            Direction::Reverse => store::newest(&ctx.pg, span, limit).await?,
        };
        found.extend(saved.into_iter().map(|publication| (publication.offset, publication)));
        Ok(match self.direction {
            Direction::Forward => found.into_values().take(self.limit).collect(),
            Direction::Reverse => found.into_values().rev().take(self.limit).collect(),
        })
    }

    async fn unsaved(&self, ctx: &Context, channel: &Channel, unsaved_ms: u64) -> Result<Vec<Publication>> {
        let (low, high) = (format!("{unsaved_ms}-{}", self.after + 1), format!("{unsaved_ms}-{}", self.below - 1));
        let (command, first, last) = match self.direction {
            Direction::Forward => ("XRANGE", low, high),
            Direction::Reverse => ("XREVRANGE", high, low),
        };
        let mut cmd = redis::cmd(command);
        cmd.arg(ctx.keys.channel_unsaved(channel.name.as_str())).arg(first).arg(last).arg("COUNT").arg(self.limit);
        let entries: Vec<(String, Vec<String>)> = cmd.query_async(&mut ctx.redis.connection()).await?;
        entries
            .into_iter()
            .map(|(id, fields)| publication(fields).ok_or_else(|| Error::internal(format!("`{id}` is no publication"))))
            .collect()
    }

    fn join(&self, older: Vec<Publication>, history: &mut History) {
        match self.direction {
            Direction::Forward => {
                let kept = std::mem::replace(&mut history.publications, older);
                history.publications.extend(kept);
                history.publications.truncate(self.limit);
            }
            Direction::Reverse => history.publications.extend(older),
        }
    }
}

fn publication(fields: Vec<String>) -> Option<Publication> {
    let [_, offset, _, _, _, body, _, at_ms] = <[String; 8]>::try_from(fields).ok()?;
    Some(Publication { offset: offset.parse().ok()?, published_at_ms: at_ms.parse().ok()?, body: Bytes::from(body) })
}

/// Offsets are counted one by one, and never come near the end.
fn signed(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}
