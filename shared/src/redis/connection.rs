//! What commands go through: cheap to clone, heals by itself, and each answer comes within a limit or is an error.

use super::routed::Routed;
use redis::{
    Cmd, Pipeline, RedisFuture, Value,
    aio::{ConnectionLike, ConnectionManager},
};
use std::sync::Arc;

/// Clones share what is behind it, which pipelines their commands.
///
/// A command that failed may have been carried out all the same. Nothing is sent twice but what a server refused to carry out
/// because it is another's. In a cluster a pipeline may hold keys of any masters, and is then in order only for each of them; a
/// transaction, a script and a command with several keys must keep to keys with the same `{tag}`.
#[derive(Clone)]
pub struct Connection(Line);

#[derive(Clone)]
enum Line {
    One(ConnectionManager),
    Routed(Arc<Routed>),
}

impl Connection {
    pub(super) const fn to_one(server: ConnectionManager) -> Self {
        Self(Line::One(server))
    }

    pub(super) fn routed(routed: Routed) -> Self {
        Self(Line::Routed(Arc::new(routed)))
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The manager's own form would show the password of the URL.
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match &mut self.0 {
            Line::One(server) => server.req_packed_command(cmd),
            Line::Routed(routed) => Box::pin(routed.send(cmd)),
        }
    }

    fn req_packed_commands<'a>(&'a mut self, pipeline: &'a Pipeline, offset: usize, count: usize) -> RedisFuture<'a, Vec<Value>> {
        match &mut self.0 {
            Line::One(server) => server.req_packed_commands(pipeline, offset, count),
            Line::Routed(routed) => Box::pin(routed.send_pipeline(pipeline, offset, count)),
        }
    }

    /// Only a server of its own is entered by another database than 0 without each new connection being told.
    fn get_db(&self) -> i64 {
        match &self.0 {
            Line::One(server) => server.get_db(),
            Line::Routed(_) => 0,
        }
    }
}
