//! The link: one connection of a process on which it hears what is published, that heals by itself; in a cluster one to each
//! master.
//!
//! `resp` and `payload` read what comes, `subscriptions` knows what is to be listened to, `task` is the loop around them, and
//! `probe` its way to find out that a connection which stands hears nothing any more. `place` is where a connection listens, and
//! `shards` has a task for each master of a cluster and gives each the channels that are its own.
//!
//! What Redis sends is delivered in its order, or its loss is announced by [`Delivery::Lost`]: the channel to the receiver is
//! bounded, and while it is full nothing is read. Redis ends connections that do not read for long, which is such a loss.

mod payload;
mod place;
mod probe;
mod resp;
mod shards;
mod subscriptions;
mod task;

use super::{ChannelError, ChannelName, Delivery};
use crate::{Code, Context, Error, vital::vital};
use place::Place;
use std::time::Duration;
use task::{Ends, Request};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// Batches that wait for the receiver; each is at most [`task::BATCH_MAX`] deliveries, or what one read brought.
const BATCHES_WAITING: usize = 64;
const REQUESTS_WAITING: usize = 1_024;
/// Longer than a reconnection with many channels takes; whoever waits is a client's command.
const CONFIRM_WITHIN: Duration = Duration::from_secs(5);

/// How often the link looks whether it still hears.
#[derive(Debug, Clone, Copy)]
struct Probing {
    every: Duration,
    patience: Duration,
}

const PROBING: Probing = Probing { every: Duration::from_secs(30), patience: Duration::from_secs(5) };

/// Tells the link what to listen to. Cheap to clone; the connection ends with the last of them, or with the receiver.
#[derive(Debug, Clone)]
pub struct Link {
    requests: mpsc::Sender<Request>,
}

impl Link {
    /// Begins to connect, on the runtime that this is called on: one that nothing blocks.
    ///
    /// The receiver has to be emptied while [`subscribe`](Self::subscribe) is awaited, for a confirmation comes behind what was
    /// published before it.
    pub fn start(ctx: Context) -> (Self, mpsc::Receiver<Vec<Delivery>>) {
        Self::start_probing(ctx, PROBING)
    }

    fn start_probing(ctx: Context, probing: Probing) -> (Self, mpsc::Receiver<Vec<Delivery>>) {
        let (requests, asked) = mpsc::channel(REQUESTS_WAITING);
        let (deliveries, receiver) = mpsc::channel(BATCHES_WAITING);
        let ends = Ends { requests: asked, deliveries, connected: None };
        match ctx.redis.shards() {
            None => drop(tokio::spawn(vital("link", task::run(ctx, Place::Anywhere, ends, probing)))),
            Some(shards) => drop(tokio::spawn(vital("link", shards::run(ctx, shards, ends, probing)))),
        }
        (Self { requests }, receiver)
    }

    /// Listens to channels: whatever is published on them after this has returned is delivered. Channels that are listened to
    /// already are no error. After an error they stay wanted: ask again, or [`unsubscribe`](Self::unsubscribe).
    pub async fn subscribe(&self, channels: Vec<ChannelName>) -> Result<(), ChannelError> {
        let (done, confirmed) = oneshot::channel();
        let asked = async {
            self.requests.send(Request::Subscribe { channels, done }).await.ok()?;
            confirmed.await.ok()
        };
        timeout(CONFIRM_WITHIN, asked).await.ok().flatten().ok_or_else(|| {
            let error = Error::new(Code::RedisUnavailable, "Redis does not confirm the subscription at the moment.");
            error.retry_after(Duration::from_secs(1)).into()
        })
    }

    /// Listens to channels no more; a few publications may still be delivered.
    pub async fn unsubscribe(&self, channels: Vec<ChannelName>) {
        // Without a task there is nothing to end.
        let _ = self.requests.send(Request::Unsubscribe { channels }).await;
    }
}

#[cfg(test)]
mod tests;
