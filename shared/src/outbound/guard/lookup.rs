//! Names looked up by the system, which blocks a thread until it knows, and cannot be told to stop: on threads of their own, so that
//! names that are slow to resolve hold up other names at most, and no password.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    thread,
    time::Duration,
};
use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};

/// Lookups of this process at once, a thread each: those that nobody waits for any longer included.
const LOOKUPS_MAX: usize = 32;
/// Wait for a turn.
const TURN_WITHIN: Duration = Duration::from_secs(1);
/// Longest that an answer is waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

static LOOKUPS: Semaphore = Semaphore::const_new(LOOKUPS_MAX);

/// The addresses of a host; `ResourceBusy` while too many are being looked up.
pub(super) async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let host = host.to_owned();
    run(&LOOKUPS, move || Ok((host.as_str(), port).to_socket_addrs()?.collect())).await
}

async fn run<T: Send + 'static>(turns: &'static Semaphore, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let turn = timeout(TURN_WITHIN, turns.acquire()).await.map_err(|_| io::ErrorKind::ResourceBusy)?.map_err(io::Error::other)?;
    let (answer, answered) = oneshot::channel();
    thread::Builder::new().name("lookup".to_owned()).spawn(move || {
        let found = work();
        // Only now may another begin, whether or not anybody still wants to know.
        drop(turn);
        drop(answer.send(found));
    })?;
    timeout(ANSWER_WITHIN, answered).await.map_err(|_| io::ErrorKind::TimedOut)?.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    #[tokio::test]
    async fn a_name_that_is_slow_keeps_its_turn_until_its_thread_is_free() {
        static TURNS: Semaphore = Semaphore::const_new(1);
        let (go_on, is_over) = sync_channel::<()>(1);
        let slow = run(&TURNS, move || is_over.recv().map_err(io::Error::other));
        assert!(timeout(Duration::ZERO, slow).await.is_err(), "nobody waits for it any longer");
        let next = run(&TURNS, || Ok(7)).await;
        assert_eq!(next.unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        go_on.send(()).unwrap();
        assert_eq!(run(&TURNS, || Ok(7)).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn this_machine_has_a_name() {
        assert!(look_up("localhost", 80).await.unwrap().iter().all(|address| address.ip().is_loopback() && address.port() == 80));
    }
}
