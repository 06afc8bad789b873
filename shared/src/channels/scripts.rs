//! The scripts of channels: what they take and return is written on top of each `.lua` file. Each touches the keys of one channel,
//! or of one user.

use super::{ChannelError, turns::Turn};
use crate::{Context, Error, redis::Connection};
use redis::{Cmd, FromRedisValue, RedisError, RedisResult, Value};
use std::sync::LazyLock;

/// Lua with the name by which a server knows it once it has run there.
#[derive(Debug)]
pub(super) struct Script {
    code: &'static str,
    hash: LazyLock<String>,
}

macro_rules! scripts {
    ($($name:ident = $($file:literal)+;)*) => {$(
        pub(super) static $name: Script = {
            const CODE: &str = concat!($(include_str!($file)),+);
            Script { code: CODE, hash: LazyLock::new(|| redis::Script::new(CODE).get_hash().to_owned()) }
        };
    )*};
}

scripts! {
    PUBLISH = "epoch.lua" "publish.lua";
    HISTORY = "epoch.lua" "entries.lua" "history.lua";
    PRESENCE_JOIN = "presence/expiry.lua" "presence/join.lua";
    PRESENCE_REFRESH = "presence/expiry.lua" "presence/refresh.lua";
    PRESENCE_LEAVE = "presence/expiry.lua" "presence/leave.lua";
    PRESENCE_STATS = "presence/expiry.lua" "presence/stats.lua";
    CONNECTIONS_ENTER = "connections_enter.lua";
    HISTORY_REMOVE = "persist/remove.lua";
    UNSAVED_READ = "entries.lua" "persist/unsaved.lua";
    UNSAVED_FORGET = "persist/forget.lua";
    SESSION_REMEMBER = "session_remember.lua";
}

/// Runs `script`; `fill` adds the number of keys, the keys and the arguments. A server that does not know the script (it is new,
/// or was restarted) has done nothing, and is sent it whole.
pub(super) async fn run<T: FromRedisValue>(ctx: &Context, script: &Script, fill: impl Fn(&mut Cmd)) -> Result<T, ChannelError> {
    let mut connection = ctx.redis.connection();
    let mut cmd = redis::cmd("EVALSHA");
    fill(cmd.arg(&*script.hash));
    match cmd.query_async(&mut connection).await {
        Err(error) if error.code() == Some("NOSCRIPT") => {
            let mut cmd = redis::cmd("EVAL");
            fill(cmd.arg(script.code));
            Ok(cmd.query_async(&mut connection).await?)
        }
        answer => Ok(answer?),
    }
}

/// The same in a turn, over a connection of its own. What was sent stays with the server when whoever asked for it leaves: so the turn, which is
/// given back with the answer, is over when that has come, and not before.
pub(super) async fn run_in<T: FromRedisValue>(
    turn: Turn,
    connection: Connection,
    script: &Script,
    fill: impl Fn(&mut Cmd),
) -> Result<(T, Turn), ChannelError> {
    let mut cmd = redis::cmd("EVALSHA");
    fill(cmd.arg(&*script.hash));
    let (mut answer, mut turn) = answer_in(turn, connection.clone(), cmd).await?;
    if matches!(&answer, Err(error) if error.code() == Some("NOSCRIPT")) {
        let mut cmd = redis::cmd("EVAL");
        fill(cmd.arg(script.code));
        (answer, turn) = answer_in(turn, connection, cmd).await?;
    }
    Ok((redis::from_redis_value(answer?).map_err(RedisError::from)?, turn))
}

async fn answer_in(turn: Turn, mut connection: Connection, cmd: Cmd) -> crate::Result<(RedisResult<Value>, Turn)> {
    tokio::spawn(async move { (cmd.query_async(&mut connection).await, turn) }).await.map_err(Error::internal)
}

/// An epoch for a channel that begins one. It need only differ from the channel's others.
pub(super) fn fresh_epoch() -> String {
    format!("{:08x}", rand::random::<u32>())
}
