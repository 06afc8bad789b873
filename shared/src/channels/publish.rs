//! Publishing: one script keeps the publication, remembers its idempotency key and sends it.

use super::{
    Channel, ChannelError, NewPublication, Position,
    namespace::HistoryRules,
    persist,
    scripts::{self, PUBLISH},
};
use crate::{Context, clock::unix_ms};
use sha2::{Digest, Sha256};
use std::time::Duration;

const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Publications of one channel that may wait to be written to PostgreSQL. Beyond it publishing fails: what was accepted is kept.
const UNSAVED_MAX: u32 = 100_000;

/// Sends `new` to everybody who listens on the channel, and keeps it as the channel's namespace says.
///
/// When it returns, the publication is in Redis under the offset of the position. Without history the offset is 0 and the epoch
/// empty, and nothing says whether anybody has heard it. After an error it may have been published all the same: repeat it with
/// the same idempotency key.
pub async fn publish(ctx: &Context, channel: &Channel, new: &NewPublication<'_>) -> Result<Position, ChannelError> {
    let publication = Prepared {
        body: body(channel, new)?,
        at_ms: unix_ms(ctx.clock.now()),
        history: channel.namespace.history.filter(|_| !new.skip_history),
        key_hash: new.idempotency_key.map(key_hash).transpose()?,
        key_kept_for: new.key_kept_for,
    };
    if publication.history.is_none() && publication.key_hash.is_none() {
        return send(ctx, channel, &publication).await;
    }
    if publication.history.is_some() && channel.namespace.persist {
        persist::register(ctx, &channel.name).await?;
    }
    keep_and_send(ctx, channel, &publication).await
}

struct Prepared {
    body: String,
    at_ms: i64,
    history: Option<HistoryRules>,
    key_hash: Option<String>,
    key_kept_for: Duration,
}

/// Nothing of it is kept: no script.
async fn send(ctx: &Context, channel: &Channel, publication: &Prepared) -> Result<Position, ChannelError> {
    let payload = format!("p0::{}:{}", publication.at_ms, publication.body);
    let mut cmd = redis::cmd(ctx.redis.publish_verb());
    cmd.arg(ctx.keys.channel(channel.name.as_str())).arg(payload).exec_async(&mut ctx.redis.connection()).await?;
    Ok(Position::new(0, ""))
}

async fn keep_and_send(ctx: &Context, channel: &Channel, publication: &Prepared) -> Result<Position, ChannelError> {
    let (keys, name, epoch) = (&ctx.keys, channel.name.as_str(), scripts::fresh_epoch());
    let (size, ttl) = publication.history.map_or((0, Duration::ZERO), |history| (history.size, history.ttl));
    let unsaved_max = if channel.namespace.persist { UNSAVED_MAX } else { 0 };
    let (key_hash, key_ttl) = publication.key_hash.as_deref().map_or(("", Duration::ZERO), |hash| (hash, publication.key_kept_for));
    let meta_ttl_s = ctx.settings().channel_layer_group_expiry;
    let (offset, epoch, outcome): (u64, String, String) = scripts::run(ctx, &PUBLISH, |cmd| {
        cmd.arg(4).arg(keys.channel_meta(name)).arg(keys.channel_history(name));
        cmd.arg(keys.channel_idempotency(name, key_hash)).arg(keys.channel_unsaved(name));
        cmd.arg(keys.channel(name)).arg(ctx.redis.publish_verb()).arg(&publication.body).arg(publication.at_ms);
        cmd.arg(size).arg(ttl.as_secs()).arg(meta_ttl_s).arg(&epoch).arg(key_ttl.as_secs()).arg(unsaved_max);
    })
    .await?;
    if outcome == "full" {
        return Err(ChannelError::LimitExceeded("Too many publications of this channel wait to be saved; try again later."));
    }
    Ok(Position { offset, epoch: epoch.into() })
}

/// The publication as it is kept and sent: one line of JSON.
fn body(channel: &Channel, new: &NewPublication<'_>) -> Result<String, ChannelError> {
    let data = new.data.get();
    let tags = new.tags.filter(|tags| !tags.is_empty()).map(|tags| serde_json::to_string(tags).expect("a map of texts is plain data"));
    if data.len() + tags.as_ref().map_or(0, String::len) > channel.namespace.publication_max_bytes {
        return Err(ChannelError::LimitExceeded("The publication is larger than the channel allows."));
    }
    let info = new.info.map(super::ClientInfo::to_json);
    let mut body = String::with_capacity(32 + data.len() + info.as_ref().map_or(0, String::len) + tags.as_ref().map_or(0, String::len));
    body.push_str("{\"data\":");
    push_line(&mut body, data);
    for (name, json) in [("info", info), ("tags", tags)] {
        if let Some(json) = json {
            body.extend([",\"", name, "\":", &json]);
        }
    }
    body.push('}');
    Ok(body)
}

/// Line ends in JSON stand only between its tokens, where a space does as well; in a frame they would end a message.
fn push_line(line: &mut String, json: &str) {
    line.extend(json.split(['\n', '\r']).enumerate().flat_map(|(at, part)| [if at == 0 { "" } else { " " }, part]));
}

fn key_hash(key: &str) -> Result<String, ChannelError> {
    if !(1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) {
        return Err(ChannelError::BadRequest("An idempotency key is 1 to 255 bytes long."));
    }
    Ok(Sha256::digest(key).iter().fold(String::with_capacity(64), |mut text, byte| {
        use std::fmt::Write as _;
        write!(text, "{byte:02x}").expect("a string takes all that is written");
        text
    }))
}
