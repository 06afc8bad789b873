//! What commands go through: cheap to clone, heals by itself, and each answer comes within a limit or is an error.

use redis::{
    Cmd, Pipeline, RedisFuture, Value,
    aio::{ConnectionLike, ConnectionManager},
};

/// Clones share what is behind it, which pipelines their commands.
///
/// A command that failed may have been carried out all the same; nothing is sent twice but what a server refused to carry out.
#[derive(Clone)]
pub struct Connection(ConnectionManager);

impl Connection {
    pub(super) const fn new(server: ConnectionManager) -> Self {
        Self(server)
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
        self.0.req_packed_command(cmd)
    }

    fn req_packed_commands<'a>(&'a mut self, pipeline: &'a Pipeline, offset: usize, count: usize) -> RedisFuture<'a, Vec<Value>> {
        self.0.req_packed_commands(pipeline, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.0.get_db()
    }
}
