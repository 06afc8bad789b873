//! The methods: what each takes, does and answers. Parameters that we have no use for are ignored, those that ask for what we do not
//! offer are refused.

use super::refusal::Refusal;
use crate::socket;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};
use shared::{
    Context, Role, Scope,
    channels::{
        Addressee, ChannelName, Control, Direction, Filter, HISTORY_READ_MAX, NewPublication, Position, Publication, PublicationData,
        ServerSubscription,
        administration::Parting,
        control, history_remove, listing,
        presence::PresenceList,
        requests::{self, BROADCAST_CHANNELS_MAX, Requester},
        sessions,
    },
    nodes,
};
use std::{collections::BTreeMap, sync::Arc};

type Answer = Result<Box<RawValue>, Refusal>;

macro_rules! methods {
    ($($variant:ident = $name:literal => $function:ident;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Method { $($variant,)* }

        impl Method {
            pub(super) fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }

            pub(super) async fn call(self, ctx: &Context, requester: Requester<'_>, params: &str) -> Answer {
                match self {
                    $(Self::$variant => Box::pin($function(ctx, requester, params)).await,)*
                }
            }
        }
    };
}

methods! {
    Publish = "publish" => publish;
    Broadcast = "broadcast" => broadcast;
    Subscribe = "subscribe" => subscribe;
    Unsubscribe = "unsubscribe" => unsubscribe;
    Disconnect = "disconnect" => disconnect;
    Refresh = "refresh" => refresh;
    Presence = "presence" => presence;
    PresenceStats = "presence_stats" => presence_stats;
    History = "history" => history;
    HistoryRemove = "history_remove" => remove_history;
    Channels = "channels" => channels;
    Info = "info" => info;
}

fn parse<T: DeserializeOwned>(params: &str) -> Result<T, Refusal> {
    Ok(serde_json::from_str(params).map_err(|_| socket::Refusal::BAD_REQUEST)?)
}

fn answer(result: &impl Serialize) -> Answer {
    Ok(to_raw_value(result).map_err(|_| socket::Refusal::INTERNAL)?)
}

/// Orders for connections of others are for operators, and for backends.
fn require_operator(requester: Requester<'_>, scope: Scope) -> Result<(), Refusal> {
    match requester {
        Requester::Backend => Ok(()),
        Requester::Account(caller) => Ok(caller.require(scope).and_then(|()| caller.require_role(Role::Operator))?),
    }
}

/// What to publish, and how.
#[derive(Debug, Deserialize)]
struct Content {
    data: Option<Box<RawValue>>,
    /// The same in base64.
    b64data: Option<String>,
    tags: Option<BTreeMap<String, String>>,
    idempotency_key: Option<String>,
    #[serde(default)]
    skip_history: bool,
}

impl Content {
    /// Takes the data out, wherever it is.
    fn take_data(&mut self) -> Result<Box<RawValue>, Refusal> {
        Ok(match (self.data.take(), self.b64data.as_deref().filter(|text| !text.is_empty())) {
            (_, Some(text)) => json_of_base64(text)?,
            (Some(data), None) => data,
            (None, None) => return Err(socket::Refusal::BAD_REQUEST.into()),
        })
    }

    fn with<'a>(&'a self, data: &'a RawValue) -> Result<NewPublication<'a>, Refusal> {
        Ok(NewPublication {
            tags: self.tags.as_ref(),
            idempotency_key: self.idempotency_key.as_deref().filter(|key| !key.is_empty()),
            skip_history: self.skip_history,
            ..NewPublication::new(data)?
        })
    }
}

/// Clients speak JSON: other bytes would reach nobody.
fn json_of_base64(text: &str) -> Result<Box<RawValue>, Refusal> {
    let bytes = BASE64.decode(text).map_err(|_| socket::Refusal::BAD_REQUEST)?;
    let json = String::from_utf8(bytes).map_err(|_| socket::Refusal::BAD_REQUEST)?;
    Ok(RawValue::from_string(json).map_err(|_| socket::Refusal::BAD_REQUEST)?)
}

/// Parsed beside [`Content`] from the same parameters: raw JSON cannot be read through a flattened field.
#[derive(Debug, Deserialize)]
struct OneChannel {
    channel: String,
}

#[derive(Debug, Deserialize)]
struct ManyChannels {
    channels: Vec<String>,
}

async fn publish(ctx: &Context, requester: Requester<'_>, params: &str) -> Answer {
    let (to, mut content): (OneChannel, Content) = (parse(params)?, parse(params)?);
    let data = content.take_data()?;
    let channel = ctx.namespaces.resolve(&to.channel)?;
    answer(&Published::from(requests::publish_for(ctx, requester, &channel, &content.with(&data)?).await?))
}

async fn broadcast(ctx: &Context, requester: Requester<'_>, params: &str) -> Answer {
    let (to, mut content): (ManyChannels, Content) = (parse(params)?, parse(params)?);
    let data = content.take_data()?;
    if to.channels.len() > BROADCAST_CHANNELS_MAX {
        return Err(socket::Refusal::LIMIT_EXCEEDED.into());
    }
    if let Requester::Account(_) = requester {
        requests::broadcast_bytes(ctx, to.channels.len(), &data, "/channels")?;
    }
    let verdicts = requests::broadcast_for(ctx, requester, &to.channels, &content.with(&data)?).await;
    let responses = verdicts.into_iter().map(|verdict| match verdict {
        Ok(position) => json!({"result": Published::from(position)}),
        Err(error) => json!({"error": Refusal::from(error)}),
    });
    answer(&json!({"responses": responses.collect::<Vec<_>>()}))
}

/// Without history there is no position.
#[derive(Debug, Serialize)]
struct Published {
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<Arc<str>>,
}

impl From<Position> for Published {
    fn from(Position { offset, epoch }: Position) -> Self {
        let is_kept = offset > 0;
        Self { offset: is_kept.then_some(offset), epoch: is_kept.then_some(epoch) }
    }
}

/// Whose connections a command is about.
#[derive(Debug, Deserialize)]
struct Whose {
    user: String,
    client: Option<String>,
    session: Option<String>,
}

impl Whose {
    fn addressee(self) -> Result<Addressee, Refusal> {
        let is_given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        match () {
            // A connection is all the session that there is here.
            () if is_given(&self.session) => Err(socket::Refusal::NOT_AVAILABLE.into()),
            () if self.user.is_empty() && !is_given(&self.client) => Err(socket::Refusal::BAD_REQUEST.into()),
            () => Ok(Addressee { user: Some(self.user), client: self.client.filter(|client| !client.is_empty()) }),
        }
    }
}

#[derive(Debug, Deserialize)]
struct SubscribeOptions {
    channel: String,
    info: Option<Box<RawValue>>,
    b64info: Option<String>,
    data: Option<Box<RawValue>>,
    b64data: Option<String>,
}

async fn subscribe(ctx: &Context, requester: Requester<'_>, params: &str) -> Answer {
    require_operator(requester, Scope::ChannelsPublish)?;
    let (to, options): (Whose, SubscribeOptions) = (parse(params)?, parse(params)?);
    let channel = ctx.namespaces.resolve(&options.channel)?.name;
    let chan_info = either(options.info, options.b64info.as_deref())?;
    let data = either(options.data, options.b64data.as_deref())?;
    sessions::subscribe(ctx, to.addressee()?, &ServerSubscription { channel, chan_info, data }).await?;
    answer(&json!({}))
}

fn either(json: Option<Box<RawValue>>, base64: Option<&str>) -> Result<Option<Arc<RawValue>>, Refusal> {
    let json = match base64.filter(|text| !text.is_empty()) {
        Some(text) => Some(json_of_base64(text)?),
        None => json,
    };
    // Others are shown it as they are shown publications.
    json.as_deref().map(PublicationData::check).transpose()?;
    Ok(json.map(Into::into))
}

async fn unsubscribe(ctx: &Context, requester: Requester<'_>, params: &str) -> Answer {
    require_operator(requester, Scope::ChannelsPublish)?;
    let (to, from): (Whose, OneChannel) = (parse(params)?, parse(params)?);
    let channel: ChannelName = ctx.namespaces.resolve(&from.channel)?.name;
    let (code, reason) = (2_000, "server unsubscribe".to_owned());
    sessions::unsubscribe(ctx, to.addressee()?, channel, code, reason).await?;
    answer(&json!({}))
}

#[derive(Debug, Default, Deserialize)]
struct DisconnectOptions {
    #[serde(default)]
    whitelist: Vec<String>,
    disconnect: Option<CodeAndReason>,
}

#[derive(Debug, Deserialize)]
struct CodeAndReason {
    #[serde(default)]
    code: u32,
    #[serde(default)]
    reason: String,
}

async fn disconnect(ctx: &Context, requester: Requester<'_>, params: &str) -> Answer {
    require_operator(requester, Scope::ChannelsPublish)?;
    let (to, options): (Whose, DisconnectOptions) = (parse(params)?, parse(params)?);
    let default = Parting::default();
    let Parting { code, reason } = match options.disconnect {
        // 0 is how the libraries write that nothing is said.
        Some(CodeAndReason { code: 0, .. }) | None => default,
        Some(CodeAndReason { code: code @ 3_000..=4_999, reason }) if reason.len() <= 123 => Parting { code, reason },
        Some(_) => return Err(socket::Refusal::BAD_REQUEST.into()),
    };
    order(ctx, &Control::Disconnect { to: to.addressee()?, code, reason, except: options.whitelist }).await
}

#[derive(Debug, Deserialize)]
struct RefreshOptions {
    #[serde(default)]
    expired: bool,
    expire_at: Option<i64>,
}

async fn refresh(ctx: &Context, requester: Requester<'_>, params: &str) -> Answer {
    require_operator(requester, Scope::ChannelsPublish)?;
    let (to, RefreshOptions { expired, expire_at }): (Whose, RefreshOptions) = (parse(params)?, parse(params)?);
    let expires_at = expire_at.filter(|at| *at != 0);
    order(ctx, &Control::Refresh { to: to.addressee()?, expired, expires_at }).await
}

async fn order(ctx: &Context, order: &Control) -> Answer {
    control(ctx, order).await?;
    answer(&json!({}))
}

async fn presence(ctx: &Context, requester: Requester<'_>, params: &str) -> Answer {
    #[derive(Serialize)]
    struct Presence {
        presence: PresenceList,
    }
    let channel = ctx.namespaces.resolve(&parse::<OneChannel>(params)?.channel)?;
    answer(&Presence { presence: requests::presence_for(ctx, requester, &channel).await? })
}

async fn presence_stats(ctx: &Context, requester: Requester<'_>, params: &str) -> Answer {
    let channel = ctx.namespaces.resolve(&parse::<OneChannel>(params)?.channel)?;
    let stats = requests::presence_stats_for(ctx, requester, &channel).await?;
    answer(&json!({"num_clients": stats.num_clients, "num_users": stats.num_users}))
}

#[derive(Debug, Deserialize)]
struct ReadHistory {
    channel: String,
    /// 0 asks for the position alone, -1 for everything.
    #[serde(default)]
    limit: i64,
    since: Option<Since>,
    #[serde(default)]
    reverse: bool,
}

#[derive(Debug, Deserialize)]
struct Since {
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    epoch: String,
}

async fn history(ctx: &Context, requester: Requester<'_>, params: &str) -> Answer {
    let params: ReadHistory = parse(params)?;
    let channel = ctx.namespaces.resolve(&params.channel)?;
    let filter = Filter {
        limit: u32::try_from(params.limit).unwrap_or(HISTORY_READ_MAX).min(HISTORY_READ_MAX),
        since: params.since.map(|since| Position::new(since.offset, &since.epoch)),
        direction: if params.reverse { Direction::Reverse } else { Direction::Forward },
    };
    let history = requests::history_for(ctx, requester, &channel, &filter).await?;
    let publications = history.publications.iter().map(with_offset).collect::<Result<Vec<_>, _>>()?;
    #[derive(Serialize)]
    struct Kept {
        publications: Vec<Box<RawValue>>,
        offset: u64,
        epoch: Arc<str>,
    }
    answer(&Kept { publications, offset: history.position.offset, epoch: history.position.epoch })
}

/// The publication as clients of the protocol get it: the offset goes before the members of the body.
fn with_offset(publication: &Publication) -> Result<Box<RawValue>, Refusal> {
    let body = std::str::from_utf8(&publication.body).map_err(|_| socket::Refusal::INTERNAL)?;
    let members = body.strip_prefix('{').ok_or(socket::Refusal::INTERNAL)?;
    Ok(RawValue::from_string(format!("{{\"offset\":{},{members}", publication.offset)).map_err(|_| socket::Refusal::INTERNAL)?)
}

async fn remove_history(ctx: &Context, requester: Requester<'_>, params: &str) -> Answer {
    require_operator(requester, Scope::ChannelsPublish)?;
    let channel = ctx.namespaces.resolve(&parse::<OneChannel>(params)?.channel)?;
    history_remove(ctx, &channel).await?;
    answer(&json!({}))
}

#[derive(Debug, Deserialize)]
struct ListChannels {
    pattern: Option<String>,
}

async fn channels(ctx: &Context, requester: Requester<'_>, params: &str) -> Answer {
    require_operator(requester, Scope::ChannelsRead)?;
    let ListChannels { pattern } = parse(params)?;
    let pattern = pattern.filter(|pattern| !pattern.is_empty()).unwrap_or_else(|| "*".to_owned());
    let channels = listing::matching(ctx, &pattern).await?.into_iter();
    // Where nobody is counted, nothing is said.
    let count = |num_clients: Option<u64>| num_clients.map_or_else(|| json!({}), |num_clients| json!({"num_clients": num_clients}));
    let counts = channels.map(|channel| (channel.name.to_string(), count(channel.num_clients)));
    answer(&json!({"channels": counts.collect::<BTreeMap<_, _>>()}))
}

async fn info(ctx: &Context, requester: Requester<'_>, _: &str) -> Answer {
    require_operator(requester, Scope::ChannelsRead)?;
    let nodes = nodes::list(ctx).await?.into_iter().filter(|node| node.kind == "api");
    let nodes = nodes.map(|node| json!({"uid": node.id, "name": node.host, "version": node.version}));
    answer(&json!({"nodes": nodes.collect::<Vec<_>>()}))
}
