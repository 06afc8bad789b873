//! History beyond what Redis keeps.

use super::store::{self, Span};
use crate::{
    Context, Error, Result,
    channels::{
        Channel, ChannelError, Direction, Filter, HISTORY_READ_MAX, History, Publication, Reader,
        history::{HISTORY_READ_BYTES, Read, cut, n_within, slice},
        scripts::{self, UNSAVED_READ},
        turns::{Asker, Turn},
    },
    clock::from_unix_ms,
    page::{Key, Page, PageRequest},
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

const BYTES: i64 = HISTORY_READ_BYTES as i64;

/// A page of what was saved of a channel, across its epochs, newest first; it ends sooner where a page would be too large. The last
/// second's publications may not be saved yet: those are in the channel's [`history`](crate::channels::history()).
pub async fn archive(
    ctx: &Context,
    reader: &Reader,
    channel: &Channel,
    request: &PageRequest<ArchiveCursor>,
) -> Result<Page<Archived>, ChannelError> {
    if !channel.namespace.persist {
        return Err(ChannelError::NotAvailable);
    }
    // Later than anything that was published, and a time that PostgreSQL has as well.
    const END_OF_TIME_MS: i64 = 253_402_300_799_000;
    let before = request.before.map_or((END_OF_TIME_MS, i64::MAX), |cursor| (cursor.published_at_ms, signed(cursor.offset)));
    let limit = request.limit.min(HISTORY_READ_MAX.into());
    let _turn = ctx.history_turns.large.take(Asker::now(reader)).await?;
    let rows = store::archived(&ctx.pg, channel.name.as_str(), before, (limit + 1, BYTES)).await?;
    let found: Vec<_> = rows.into_iter().map(|row| Archived { epoch: row.epoch.into(), publication: row.publication }).collect();
    let sizes = found.iter().map(|archived| archived.publication.body.len());
    let n_fit = n_within(sizes, HISTORY_READ_BYTES).min(usize::try_from(limit).expect("at most 300"));
    let request = PageRequest { limit: i64::try_from(n_fit).expect("at most 300"), ..*request };
    Ok(Page::from_rows(found, &request, Archived::cursor))
}

impl Archived {
    fn cursor(&self) -> ArchiveCursor {
        ArchiveCursor { published_at_ms: self.publication.published_at_ms, offset: self.publication.offset }
    }
}

impl Key for ArchiveCursor {
    fn to_bytes(&self) -> Vec<u8> {
        [self.published_at_ms.to_be_bytes(), self.offset.to_be_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (published_at_ms, offset) = bytes.split_first_chunk::<8>()?;
        let published_at_ms = i64::from_be_bytes(*published_at_ms);
        // PostgreSQL does not know every year that there is a number for.
        from_unix_ms(published_at_ms).filter(|at| at.year() >= 1)?;
        Some(Self { published_at_ms, offset: u64::from_be_bytes(offset.try_into().ok()?) })
    }
}

/// `read`, with what Redis has let go of. Without the database it is only what Redis has: a reader sees by the offsets that there
/// was more.
pub(in crate::channels) async fn complete(
    ctx: &Context,
    asker: Asker<'_>,
    (channel, filter): (&Channel, &Filter),
    read: Read,
) -> Result<History, ChannelError> {
    let Read { mut history, unsaved_ms, is_cut } = read;
    // Redis itself has what comes next.
    let is_complete = is_cut && filter.direction == Direction::Reverse;
    let Some(gap) = Gap::of(filter, &history).filter(|_| !is_complete) else { return Ok(history) };
    let turn = ctx.history_turns.large.take(asker).await?;
    match gap.fill(ctx, turn, channel, (&history, unsaved_ms)).await {
        Ok(older) => gap.join(older, &mut history),
        Err(error) => tracing::warn!(%error, channel = %channel.name, "history is only what Redis keeps"),
    }
    Ok(history)
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
        (limit > 0 && below.saturating_sub(after) > 1).then_some(Self { after, below, limit, direction: filter.direction })
    }

    /// What is unsaved is read before what is saved: a publication is always in one of them, and moves only this way. Either comes with
    /// the publication that passes the bytes of an answer, if one does: so nothing of the other stands where more of it should.
    async fn fill(
        &self,
        ctx: &Context,
        mut turn: Turn,
        channel: &Channel,
        (history, unsaved_ms): (&History, Option<u64>),
    ) -> Result<Vec<Publication>> {
        let mut found = BTreeMap::new();
        if let Some(unsaved_ms) = unsaved_ms {
            let unsaved;
            (unsaved, turn) = self.unsaved(ctx, turn, channel, unsaved_ms).await?;
            found.extend(unsaved.into_iter().map(|publication| (publication.offset, publication)));
        }
        let (channel, epoch) = (channel.name.as_str(), &*history.position.epoch);
        let span = Span { channel, epoch, after: signed(self.after), below: signed(self.below) };
        let limit = i64::try_from(self.limit).expect("at most 300");
        let saved = match self.direction {
            Direction::Forward => store::oldest(&ctx.pg, span, (limit, BYTES)).await?,
            Direction::Reverse => store::newest(&ctx.pg, span, (limit, BYTES)).await?,
        };
        drop(turn);
        found.extend(saved.into_iter().map(|publication| (publication.offset, publication)));
        Ok(match self.direction {
            Direction::Forward => found.into_values().take(self.limit).collect(),
            Direction::Reverse => found.into_values().rev().take(self.limit).collect(),
        })
    }

    async fn unsaved(&self, ctx: &Context, turn: Turn, channel: &Channel, unsaved_ms: u64) -> Result<(Vec<Publication>, Turn)> {
        let (low, high) = (format!("{unsaved_ms}-{}", self.after + 1), format!("{unsaved_ms}-{}", self.below - 1));
        let (command, first, last) = match self.direction {
            Direction::Forward => ("XRANGE", low, high),
            Direction::Reverse => ("XREVRANGE", high, low),
        };
        let key = ctx.keys.channel_unsaved(channel.name.as_str());
        let (entries, turn): (Vec<(String, Vec<String>)>, _) = scripts::run_in(turn, ctx.redis.bulk_connection(), &UNSAVED_READ, |cmd| {
            cmd.arg(1).arg(&key).arg(command).arg(&first).arg(&last).arg(self.limit).arg(HISTORY_READ_BYTES).arg(slice(channel));
        })
        .await?;
        let read = |(id, fields)| publication(fields).ok_or_else(|| Error::internal(format!("`{id}` is no publication")));
        Ok((entries.into_iter().map(read).collect::<Result<_>>()?, turn))
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
        cut(&mut history.publications, HISTORY_READ_BYTES);
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
