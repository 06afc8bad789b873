//! `history`.

use super::{
    Connection,
    commands::{Failure, Outcome},
};
use crate::socket::protocol::{
    command::History,
    error::Refusal,
    reply::{self, HistoryRead},
};
use shared::channels::{self, Action, Direction, EPOCH_BYTES_MAX, Filter, HISTORY_READ_MAX, Position};
use std::rc::Rc;

/// A `history` that outlives the message it came in.
#[derive(Debug)]
pub(super) struct OwnedHistory {
    channel: String,
    filter: Filter,
}

impl History<'_> {
    pub(super) fn into_owned(self) -> Result<OwnedHistory, Failure> {
        if self.since.as_ref().is_some_and(|since| since.epoch.len() > EPOCH_BYTES_MAX) {
            return Err(Refusal::BAD_REQUEST.into());
        }
        let filter = Filter {
            // Below 0 is all there is.
            limit: u32::try_from(self.limit).unwrap_or(HISTORY_READ_MAX),
            since: self.since.map(|since| Position::new(since.offset, &since.epoch)),
            direction: if self.reverse { Direction::Reverse } else { Direction::Forward },
        };
        Ok(OwnedHistory { channel: self.channel.into_owned(), filter })
    }
}

impl Connection {
    pub(super) async fn read_history(self: Rc<Self>, id: u32, request: OwnedHistory) {
        if let Err(failure) = self.try_read_history(id, &request).await {
            self.fail(id, failure);
        }
    }

    async fn try_read_history(&self, id: u32, request: &OwnedHistory) -> Outcome {
        let ctx = &self.hub.state.ctx;
        let channel = ctx.namespaces.resolve(&request.channel)?;
        self.permit(&channel, Action::ReadHistory).await?;
        let history = channels::history(ctx, &self.holder().subject.reader(), &channel, &request.filter).await?;
        let read = HistoryRead { epoch: &history.position.epoch, offset: history.position.offset };
        self.send_answer(reply::history(id, &read, &history.publications))
    }
}
