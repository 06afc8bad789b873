//! The task that serves one connection: it reads, moves the commands on, and writes what they answer. What others have to say
//! to the connection they write themselves, unless the socket takes no more: then this task waits for it.

use super::connection::{Driver, Step};
use bytes::Bytes;
use std::{
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
};

/// Serves until the connection is over. `early` is what came behind the request.
pub(super) async fn serve(mut driver: Driver, early: Bytes) {
    driver.receive(early);
    poll_fn(|cx| {
        driver.connection.begin_turn(cx.waker());
        let is_over = turn(&mut driver, cx);
        driver.connection.end_turn();
        // Whatever the transport complains of, it is over.
        is_over.map(drop)
    })
    .await;
}

/// Goes on until there is something to wait for.
fn turn(driver: &mut Driver, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    loop {
        if driver.connection.has_much_to_write() {
            ready!(driver.connection.poll_write(cx))?;
        }
        match driver.step(cx) {
            Step::Progress => {}
            Step::Waiting => {
                ready!(driver.connection.poll_write(cx))?;
                return Poll::Pending;
            }
            // Who takes no answers is not asked for more.
            Step::Hungry => {
                ready!(driver.connection.poll_write(cx))?;
                if ready!(driver.poll_receive(cx))? == 0 {
                    return Poll::Ready(Ok(()));
                }
            }
            Step::Parted => return driver.connection.poll_write(cx),
            Step::Broken => {
                ready!(driver.connection.poll_write(cx))?;
                return driver.poll_leftovers(cx);
            }
        }
    }
}
