//! How a subscription begins: where it stands, and what it missed. Pure: the caller has read the history, and has buffered what
//! came over pub/sub meanwhile.
//!
//! The order that makes it free of races: buffer the channel, SUBSCRIBE, read the history, [`begin`], reply, release. Whatever was
//! published before the SUBSCRIBE is in the history, whatever came after it is in the buffer, and what is in both counts once.

use super::{HISTORY_READ_MAX, History, Position, Publication};
use std::sync::Arc;

/// A publication as it came over pub/sub while the history was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buffered {
    pub epoch: Arc<str>,
    pub publication: Publication,
}

/// How a subscription begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beginning {
    /// Whether the client, which asked to go on from a position, misses nothing. `None` when it did not ask.
    pub recovered: Option<bool>,
    /// The position to reply: the one that was asked for when recovered, else the channel's.
    pub reply: Position,
    /// What leads on from there without a gap, to go into the reply.
    pub missed: Vec<Publication>,
    /// What came since, to be sent after the reply: without gaps too, but for publications without an offset, which may stand anywhere.
    pub live: Vec<Publication>,
    /// Offset of the last of these: where the subscription stands once all is sent.
    pub top: u64,
}

/// What was buffered does not lead on from the history: the subscription has to begin again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap;

/// Begins a subscription. `asked` is the position that the client wants to go on from, with which `history` was read
/// ([`missed`](super::missed)); without one the history need only hold the position.
pub fn begin(asked: Option<&Position>, history: History, buffered: Vec<Buffered>) -> Result<Beginning, Gap> {
    let History { publications, position } = history;
    let (live, top) = lead_on(&position, buffered)?;
    let Some(asked) = asked else {
        return Ok(Beginning { recovered: None, reply: position, missed: Vec::new(), live, top });
    };
    if leads(asked, &publications, &position) {
        let reply = Position { offset: asked.offset, epoch: position.epoch };
        return Ok(Beginning { recovered: Some(true), reply, missed: publications, live, top });
    }
    Ok(Beginning { recovered: Some(false), reply: position, missed: Vec::new(), live, top })
}

/// Whether `missed` is all that was published between the two positions, and no more than a client may catch up with.
fn leads(asked: &Position, missed: &[Publication], position: &Position) -> bool {
    let n_missed = position.offset.checked_sub(asked.offset);
    asked.counts_in(&position.epoch)
        && n_missed == u64::try_from(missed.len()).ok()
        && n_missed.is_some_and(|n_missed| n_missed <= u64::from(HISTORY_READ_MAX))
        && missed.iter().zip(asked.offset + 1..).all(|(publication, offset)| publication.offset == offset)
}

/// What of the buffer comes after `position`, in order, and the offset it ends at.
fn lead_on(position: &Position, buffered: Vec<Buffered>) -> Result<(Vec<Publication>, u64), Gap> {
    let (mut live, mut top) = (Vec::new(), position.offset);
    for Buffered { epoch, publication } in in_order(buffered) {
        let offset = publication.offset;
        if offset == 0 {
            live.push(publication);
        } else if epoch != position.epoch {
            // Whether it is of an epoch that ended or of one that began since cannot be told.
            return Err(Gap);
        } else if offset == top + 1 {
            live.push(publication);
            top = offset;
        } else if offset > top {
            return Err(Gap);
        }
    }
    Ok((live, top))
}

/// Sorted by offset; those without one keep their place behind the publication that they came after.
fn in_order(mut buffered: Vec<Buffered>) -> Vec<Buffered> {
    let mut place = 0;
    let mut keyed: Vec<(u64, Buffered)> = buffered
        .drain(..)
        .map(|entry| {
            if entry.publication.offset > 0 {
                place = entry.publication.offset;
            }
            (place, entry)
        })
        .collect();
    keyed.sort_by_key(|(place, _)| *place);
    keyed.into_iter().map(|(_, entry)| entry).collect()
}

#[cfg(test)]
mod tests;
