//! What operators and admins do to channels and connections; each deed is in the audit log.

use super::{
    Addressee, Channel, ChannelError, Control, NewPublication, Position, SYSTEM, control, history_remove,
    requests::{Requester, publish_for},
};
use crate::{
    Caller, Context, Error, Result, Role, Scope,
    accounts::{
        Origin,
        audit::{self, Action, Deed, Subject},
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::to_raw_value};
use std::ops::AsyncFnOnce;
use utoipa::ToSchema;
use validator::Validate;

/// How a connection is told to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parting {
    pub code: u32,
    pub reason: String,
}

/// Clients that follow the protocol do not come back by themselves.
impl Default for Parting {
    fn default() -> Self {
        Self { code: 3503, reason: "force disconnect".to_owned() }
    }
}

/// A word to everybody.
#[derive(Debug, Clone, Serialize, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"message": "Maintenance begins at 22:00 UTC.", "level": "warning"}))]
pub struct SystemMessage {
    #[validate(length(min = 1, max = 4_096))]
    #[schema(min_length = 1, max_length = 4_096)]
    pub message: String,
    #[serde(default)]
    pub level: Level,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    #[default]
    Info,
    Warning,
    Critical,
}

/// Closes connections, wherever they are held. It is announced: who is not connected is not told.
pub async fn disconnect(ctx: &Context, caller: &Caller, to: Addressee, parting: Parting, origin: &Origin) -> Result<()> {
    caller.require(Scope::ChannelsPublish)?;
    caller.require_role(Role::Operator)?;
    let about = to.user.as_ref().and_then(|user| user.parse().ok()).map_or(Subject::Connection, Subject::User);
    let detail = json!({"user": to.user, "client": to.client, "code": parting.code, "reason": parting.reason});
    let Parting { code, reason } = parting;
    let order = Control::Disconnect { to, code, reason, except: Vec::new() };
    logged(ctx, (caller, Action::ConnectionsClosed, about, detail), origin, async || control(ctx, &order).await).await
}

/// Forgets what is kept of a channel. Its position stays: who missed something of it is told.
pub async fn remove_history(ctx: &Context, caller: &Caller, channel: &Channel, origin: &Origin) -> Result<()> {
    caller.require(Scope::ChannelsPublish)?;
    caller.require_role(Role::Operator)?;
    let detail = json!({"channel": channel.name});
    logged(ctx, (caller, Action::HistoryRemoved, Subject::Channel, detail), origin, async || history_remove(ctx, channel).await).await
}

/// Publishes on the channel that everybody may subscribe to, and admins alone publish on.
pub async fn send_system_message(ctx: &Context, caller: &Caller, message: &SystemMessage, origin: &Origin) -> Result<Position> {
    caller.require(Scope::Admin)?;
    let channel = ctx.namespaces.resolve(SYSTEM)?;
    let data = to_raw_value(message).map_err(Error::internal)?;
    let detail = json!({"channel": SYSTEM, "message": message.message, "level": message.level});
    let deed = (caller, Action::SystemMessageSent, Subject::Channel, detail);
    // The platform speaks, not the admin.
    logged(ctx, deed, origin, async || publish_for(ctx, Requester::Backend, &channel, &NewPublication::ours(&data)).await).await
}

/// Does what is then in the log, or neither.
async fn logged<T>(
    ctx: &Context,
    (caller, action, about, detail): (&Caller, Action, Subject, Value),
    origin: &Origin,
    deed: impl AsyncFnOnce() -> std::result::Result<T, ChannelError>,
) -> Result<T> {
    let mut tx = ctx.pg.begin().await?;
    audit::record(&mut *tx, ctx.clock.now(), Deed::new(caller.user_id, action, about, origin).with(detail)).await?;
    let done = deed().await?;
    tx.commit().await?;
    Ok(done)
}
