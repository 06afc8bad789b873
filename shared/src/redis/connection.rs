//! What commands go through: cheap to clone, heals by itself, and each answer comes within a limit or is an error.

use super::routed::Routed;
use crate::breaker::Breaker;
use redis::{
    Cmd, Pipeline, RedisError, RedisFuture, RedisResult, Value,
    aio::{ConnectionLike, ConnectionManager},
};
use std::{future::Future, io, sync::Arc};

/// Clones share what is behind it, which pipelines their commands.
///
/// A command that failed may have been carried out all the same. Nothing is sent twice but what a server refused to carry out
/// because it is another's. In a cluster a pipeline may hold keys of any masters, and is then in order only for each of them; a
/// transaction, a script and a command with several keys must keep to keys with the same `{tag}`.
#[derive(Clone)]
pub struct Connection(Line);

#[derive(Clone)]
enum Line {
    /// With the breaker of the process: while that is open, commands fail at once.
    One(ConnectionManager, Breaker),
    Routed(Arc<Routed>),
}

impl Connection {
    pub(super) const fn to_one(server: ConnectionManager, breaker: Breaker) -> Self {
        Self(Line::One(server, breaker))
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
            Line::One(server, breaker) => guarded(breaker.clone(), server.req_packed_command(cmd)),
            Line::Routed(routed) => Box::pin(routed.send(cmd)),
        }
    }

    fn req_packed_commands<'a>(&'a mut self, pipeline: &'a Pipeline, offset: usize, count: usize) -> RedisFuture<'a, Vec<Value>> {
        match &mut self.0 {
            Line::One(server, breaker) => guarded(breaker.clone(), server.req_packed_commands(pipeline, offset, count)),
            Line::Routed(routed) => Box::pin(routed.send_pipeline(pipeline, offset, count)),
        }
    }

    /// Only a server of its own is entered by another database than 0 without each new connection being told.
    fn get_db(&self) -> i64 {
        match &self.0 {
            Line::One(server, _) => server.get_db(),
            Line::Routed(_) => 0,
        }
    }
}

/// Carries a command out unless the server is known to be away, and doubts the server when it does not answer.
fn guarded<'a, T: Send + 'a>(breaker: Breaker, command: impl Future<Output = RedisResult<T>> + Send + 'a) -> RedisFuture<'a, T> {
    Box::pin(async move {
        if breaker.is_open() {
            return Err(away());
        }
        let answer = command.await;
        match &answer {
            Err(error) if is_away(error) => breaker.doubt(),
            Ok(_) | Err(_) => breaker.answered(),
        }
        answer
    })
}

fn away() -> RedisError {
    io::Error::new(io::ErrorKind::NotConnected, "Redis is away").into()
}

/// Whether nobody answered; what a server answers is no sign of its absence.
fn is_away(error: &RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped() || error.is_connection_refusal()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Code, Error, breaker::Miss};
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    #[tokio::test]
    async fn a_probe_that_nobody_answers_opens_nothing_while_commands_are_answered() {
        let (breaker, n_probes) = (Breaker::new("test"), Arc::new(AtomicU32::new(0)));
        let probed = Arc::clone(&n_probes);
        tokio::spawn(breaker.clone().watch(Duration::from_secs(1), move || {
            probed.fetch_add(1, Ordering::SeqCst);
            async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Err(Miss::Silence(Error::new(Code::RedisUnavailable, "no answer")))
            }
        }));
        while n_probes.load(Ordering::SeqCst) < 8 {
            guarded(breaker.clone(), async { Ok(()) }).await.expect("it is closed");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        breaker.opened().await;
    }
}
