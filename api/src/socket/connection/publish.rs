//! `publish`.

use super::{
    Connection,
    commands::{Failure, Outcome},
};
use crate::socket::protocol::{command::Publish, error::Refusal, reply::Done};
use serde_json::value::RawValue;
use shared::channels::{self, Action, ClientInfo, NewPublication};
use std::rc::Rc;

/// A `publish` that outlives the message it came in.
#[derive(Debug)]
pub(super) struct OwnedPublish {
    channel: String,
    data: Box<RawValue>,
}

impl Publish<'_> {
    pub(super) fn into_owned(self) -> Result<OwnedPublish, Failure> {
        let data = self.data.ok_or(Refusal::BAD_REQUEST)?.to_owned();
        Ok(OwnedPublish { channel: self.channel.into_owned(), data })
    }
}

impl Connection {
    pub(super) async fn publish(self: Rc<Self>, id: u32, request: OwnedPublish) {
        let outcome = self.try_publish(&request).await;
        self.answer(id, "publish", outcome.map(|()| Done {}));
    }

    async fn try_publish(&self, request: &OwnedPublish) -> Outcome {
        let ctx = &self.hub.state.ctx;
        let channel = ctx.namespaces.resolve(&request.channel)?;
        self.permit(&channel, Action::Publish).await?;
        let info = self.info_in(&request.channel);
        let new = NewPublication { info: Some(&info), ..NewPublication::new(&request.data)? };
        channels::publish(ctx, &channel, &new).await?;
        Ok(())
    }

    /// The connection as others see it in a channel.
    pub(super) fn info_in(&self, channel: &str) -> ClientInfo {
        let chan_info = self.chan_info_in(channel);
        ClientInfo { chan_info, ..self.holder().info.clone() }
    }
}
