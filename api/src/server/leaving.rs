//! Clients that leave while they wait for an answer. The HTTP server goes on: a client may close its side alone, and read. Who waits for
//! what may come is asked for no more patience than that: it is answered with what there is.

use super::OpenConnection;
use actix_web::{
    HttpRequest,
    rt::time::{Instant, interval_at},
};
use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv},
};
use std::time::Duration;

/// Between looks at a connection.
const EVERY: Duration = Duration::from_millis(500);

/// Whether the client has closed its connection, or its side of it.
pub(crate) fn has_left(request: &HttpRequest) -> bool {
    let Some(socket) = request.conn_data::<OpenConnection>().map(OpenConnection::socket) else { return false };
    let peeked = recv(socket, &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT);
    matches!(peeked, Ok(0) | Err(Errno::ECONNRESET))
}

/// Ends when the client has left. Not while it has sent more than the request that is being answered: its end is behind that.
pub(crate) async fn left(request: HttpRequest) {
    let mut looks = interval_at(Instant::now() + EVERY, EVERY);
    while !has_left(&request) {
        looks.tick().await;
    }
}
