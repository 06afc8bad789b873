//! The job kind `channel.publish`: a publication for later, or for many channels. Who submits it must be allowed to publish there at
//! that moment; when it runs, nobody asks again.

use super::{
    Action, ChannelError, NewPublication, publish,
    requests::{BROADCAST_CHANNELS_MAX, PUBLISHING_AT_ONCE, Requester, broadcast_bytes, without_connection},
};
use crate::{
    Caller, Context, Error, Result,
    ids::{JobId, UserId},
    json_words,
};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{collections::BTreeMap, time::Duration};

/// A run that is repeated within this time publishes nothing twice: longer than all its retries take by the kind's own policy. Each
/// channel remembers the job for so long.
const REMEMBERED_FOR: Duration = Duration::from_hours(1);

/// The payload: one channel, or many.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishLater {
    channel: Option<String>,
    #[serde(default)]
    channels: Vec<String>,
    data: Box<RawValue>,
    tags: Option<BTreeMap<String, String>>,
}

/// What a run came to.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Channels that have it.
    pub published: usize,
    pub refused: Vec<Refused>,
}

/// A channel that can never have it.
#[derive(Debug, Serialize)]
pub struct Refused {
    pub channel: String,
    pub code: &'static str,
    pub detail: String,
}

impl PublishLater {
    fn parse(payload: &RawValue) -> Result<Self> {
        let parsed: Self = json_words::parse_at(payload.get(), "/payload")?;
        let n_channels = parsed.channels.len() + usize::from(parsed.channel.is_some());
        if parsed.channel.is_some() != parsed.channels.is_empty() || n_channels > BROADCAST_CHANNELS_MAX {
            let detail = format!("must name one `channel`, or 1 to {BROADCAST_CHANNELS_MAX} `channels`");
            return Err(Error::invalid("/payload/channels", "channels", detail));
        }
        Ok(parsed)
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.channel.iter().chain(&self.channels)
    }

    /// Publishes; what failed and may pass later fails the whole, and the next run leaves out what is done.
    pub async fn run(&self, ctx: &Context, job_id: JobId, owner_id: UserId) -> Result<Report> {
        let (key, info) = (format!("job:{job_id}"), without_connection(owner_id));
        let new = NewPublication {
            info: Some(&info),
            tags: self.tags.as_ref(),
            idempotency_key: Some(&key),
            key_kept_for: REMEMBERED_FOR,
            ..NewPublication::new(&self.data)?
        };
        let each: Vec<_> = self.names().map(|name| publish_on(ctx, name, &new)).collect();
        let verdicts: Vec<_> = stream::iter(each).buffered(PUBLISHING_AT_ONCE).collect().await;
        let mut report = Report::default();
        for (channel, verdict) in self.names().zip(verdicts) {
            match verdict {
                Ok(()) => report.published += 1,
                Err(error @ (ChannelError::Failed(_) | ChannelError::LimitExceeded(_))) => return Err(error.into()),
                Err(refused) => {
                    let error = Error::from(refused);
                    report.refused.push(Refused { channel: channel.clone(), code: error.code.as_str(), detail: error.detail.into_owned() });
                }
            }
        }
        Ok(report)
    }
}

async fn publish_on(ctx: &Context, name: &str, new: &NewPublication<'_>) -> Result<(), ChannelError> {
    publish(ctx, &ctx.namespaces.resolve(name)?, new).await.map(drop)
}

/// Refuses a submit whose payload is not one, or names a channel that the caller may not publish on.
pub(crate) async fn check(ctx: &Context, caller: &Caller, payload: Option<&RawValue>) -> Result<()> {
    let missing = || Error::invalid("/payload", "payload", "must name what to publish, and where");
    let payload = PublishLater::parse(payload.ok_or_else(missing)?)?;
    broadcast_bytes(ctx, payload.channels.len(), &payload.data, "/payload/channels")?;
    for (index, name) in payload.names().enumerate() {
        let pointer = if payload.channel.is_some() { "/payload/channel".to_owned() } else { format!("/payload/channels/{index}") };
        let channel = ctx.namespaces.resolve(name).map_err(|error| Error::invalid(&pointer, "channel", error.to_string()))?;
        Requester::Account(caller).require(ctx, &channel, Action::Publish).await?;
        if payload.data.get().len() > channel.namespace.publication_max_bytes {
            return Err(Error::invalid("/payload/data", "too_large", format!("is larger than `{name}` allows")));
        }
    }
    Ok(())
}
