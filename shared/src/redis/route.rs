//! Which master a command belongs to: that of its first key. Commands whose keys are with several masters do not exist here;
//! a server refuses them.

use redis::{Arg, Cmd};

/// Where a command goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// To the master of this key.
    Key(&'a [u8]),
    /// To any master.
    Any,
    /// To all; one that could do it is enough, and its answer counts.
    EachOnce,
    /// To all; their lists become one list, and none of them may fail.
    EachJoined,
}

impl<'a> Route<'a> {
    pub(super) fn of(cmd: &'a Cmd) -> Self {
        let mut args = Args(cmd).iter();
        let Some(name) = args.next() else { return Self::Any };
        let name = name.to_ascii_uppercase();
        let key = match &name[..] {
            b"EVAL" | b"EVALSHA" | b"EVAL_RO" | b"EVALSHA_RO" | b"FCALL" | b"FCALL_RO" => {
                args.nth(1).filter(|n| *n != b"0").and(args.next())
            }
            b"XGROUP" | b"XINFO" | b"OBJECT" | b"MEMORY" | b"LMPOP" | b"ZMPOP" | b"ZUNION" | b"ZINTER" | b"ZDIFF" | b"SINTERCARD" => {
                args.nth(1)
            }
            b"XREAD" | b"XREADGROUP" => args.find(|arg| arg.eq_ignore_ascii_case(b"STREAMS")).and(args.next()),
            b"SCRIPT" | b"FLUSHALL" | b"FLUSHDB" => return Self::EachOnce,
            b"KEYS" | b"PUBSUB" | b"PING" => return Self::EachJoined,
            b"ECHO" | b"TIME" | b"INFO" | b"ROLE" | b"PUBLISH" | b"CONFIG" | b"CLUSTER" | b"CLIENT" | b"COMMAND" | b"ACL" | b"WAIT"
            | b"SCAN" => None,
            _ => args.next(),
        };
        key.map_or(Self::Any, Self::Key)
    }
}

/// A command's arguments as they are; none of ours has a cursor in it.
struct Args<'a>(&'a Cmd);

impl<'a> Args<'a> {
    fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.0.args_iter().map(|arg| if let Arg::Simple(bytes) = arg { bytes } else { b"0" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("HGET k f", Route::Key(b"k"))]
    #[case("UNLINK a b", Route::Key(b"a"))]
    #[case("EVALSHA sha 2 a b x", Route::Key(b"a"))]
    #[case("eval body 0 x", Route::Any)]
    #[case("XREADGROUP GROUP g c COUNT 1 STREAMS s >", Route::Key(b"s"))]
    #[case("XGROUP CREATE s g $", Route::Key(b"s"))]
    #[case("SPUBLISH c m", Route::Key(b"c"))]
    #[case("PUBLISH c m", Route::Any)]
    #[case("TIME", Route::Any)]
    #[case("PING", Route::EachJoined)]
    #[case("SCRIPT LOAD body", Route::EachOnce)]
    #[case("KEYS mr:*", Route::EachJoined)]
    fn a_command_goes_where_its_key_is(#[case] words: &str, #[case] route: Route<'_>) {
        let mut words = words.split(' ');
        let mut cmd = redis::cmd(words.next().unwrap());
        cmd.arg(words.collect::<Vec<_>>());
        assert_eq!(Route::of(&cmd), route);
    }
}
