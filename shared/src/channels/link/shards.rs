//! The link in a cluster: a task for each master, which listens to the channels of its slots, and one that hears what is said to
//! every process. Channels go along when a slot or a master's place does.

use super::{
    Probing, REQUESTS_WAITING,
    place::Place,
    task::{self, Ends, Request},
};
use crate::{
    Context,
    channels::{ChannelName, Delivery},
    redis::{Node, Shards},
};
use futures_util::{
    StreamExt as _,
    future::{BoxFuture, FutureExt as _, join, join_all},
    stream::FuturesUnordered,
};
use std::collections::HashMap;
use tokio::sync::{mpsc, oneshot};

/// Listens at every master until nobody asks or listens any more.
pub(super) async fn run(ctx: Context, shards: Shards, ends: Ends, probing: Probing) {
    let Ends { mut requests, deliveries, .. } = ends;
    let ((_orders, none), (connected, hears_orders)) = (mpsc::channel(1), oneshot::channel());
    let ends = Ends { requests: none, deliveries: deliveries.clone(), connected: Some(connected) };
    tokio::spawn(task::run(ctx.clone(), Place::Anywhere, ends, probing));
    let mut changes = shards.clone();
    // Whoever has subscribed to something hears orders too.
    tokio::select! {
        ((), _) = join(changes.found(), hears_orders) => {}
        () = deliveries.closed() => return,
    }
    let mut router =
        Router { ctx, shards, deliveries, probing, tasks: HashMap::new(), places: HashMap::new(), moving: FuturesUnordered::new() };
    loop {
        tokio::select! {
            request = requests.recv() => match request {
                Some(Request::Subscribe { channels, done }) => router.subscribe(channels, done).await,
                Some(Request::Unsubscribe { channels }) => router.unsubscribe(channels).await,
                None => return,
            },
            () = changes.changed() => router.follow().await,
            Some(()) = router.moving.next() => {
                if router.deliveries.send(vec![Delivery::Restored]).await.is_err() {
                    return;
                }
            }
            () = router.deliveries.closed() => return,
        }
    }
}

struct Router {
    ctx: Context,
    shards: Shards,
    deliveries: mpsc::Sender<Vec<Delivery>>,
    probing: Probing,
    /// One for each master that has channels which somebody wants.
    tasks: HashMap<Node, mpsc::Sender<Request>>,
    /// Every channel that is wanted, and at which master; `None` while its slot is nobody's.
    places: HashMap<ChannelName, Option<Node>>,
    /// Channels that have moved, until they are heard where they are now.
    moving: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl Router {
    async fn subscribe(&mut self, channels: Vec<ChannelName>, done: oneshot::Sender<()>) {
        let mut by_place: HashMap<Option<Node>, Vec<ChannelName>> = HashMap::new();
        for channel in channels {
            let place =
                self.places.entry(channel.clone()).or_insert_with(|| self.shards.master_of(&self.ctx.keys.channel(channel.as_str())));
            by_place.entry(place.clone()).or_default().push(channel);
        }
        // Whoever waits is told at once that nobody has these; they are listened to as soon as somebody does.
        let nobodys = by_place.remove(&None);
        let confirmed = self.listen(by_place).await;
        if nobodys.is_none() {
            tokio::spawn(async move {
                if join_all(confirmed).await.iter().all(Result::is_ok) {
                    // Whoever asked may be gone.
                    let _ = done.send(());
                }
            });
        }
    }

    /// Has each master's task listen to its channels.
    async fn listen(&mut self, by_place: HashMap<Option<Node>, Vec<ChannelName>>) -> Vec<oneshot::Receiver<()>> {
        let mut confirmed = Vec::new();
        for (node, channels) in by_place {
            let Some(node) = node else { continue };
            let (done, is_confirmed) = oneshot::channel();
            confirmed.push(is_confirmed);
            // A task ends only with the link.
            let _ = self.task(node).send(Request::Subscribe { channels, done }).await;
        }
        confirmed
    }

    async fn unsubscribe(&mut self, channels: Vec<ChannelName>) {
        let mut by_place: HashMap<Node, Vec<ChannelName>> = HashMap::new();
        for channel in channels {
            if let Some(Some(node)) = self.places.remove(&channel) {
                by_place.entry(node).or_default().push(channel);
            }
        }
        self.leave(by_place).await;
    }

    async fn leave(&mut self, by_place: HashMap<Node, Vec<ChannelName>>) {
        for (node, channels) in by_place {
            if let Some(task) = self.tasks.get(&node) {
                let _ = task.send(Request::Unsubscribe { channels }).await;
            }
        }
    }

    /// Masters or slots have changed: channels are listened to where they are now. What was published on the way may be missed.
    async fn follow(&mut self) {
        self.tasks.retain(|node, _| self.shards.is_master(node));
        let (mut left, mut joined): (HashMap<Node, Vec<_>>, HashMap<_, Vec<_>>) = (HashMap::new(), HashMap::new());
        for (channel, place) in &mut self.places {
            let now = self.shards.master_of(&self.ctx.keys.channel(channel.as_str()));
            if *place == now {
                continue;
            }
            joined.entry(now.clone()).or_default().push(channel.clone());
            if let Some(before) = std::mem::replace(place, now) {
                left.entry(before).or_default().push(channel.clone());
            }
        }
        if joined.is_empty() {
            return;
        }
        // Without a receiver the link is over.
        let _ = self.deliveries.send(vec![Delivery::Lost]).await;
        self.leave(left).await;
        let confirmed = self.listen(joined).await;
        self.moving.push(join_all(confirmed).map(drop).boxed());
    }

    fn task(&mut self, node: Node) -> &mpsc::Sender<Request> {
        self.tasks.entry(node).or_insert_with_key(|node| {
            let (asks, requests) = mpsc::channel(REQUESTS_WAITING);
            let place = Place::Shard { node: node.clone(), shards: self.shards.clone() };
            let ends = Ends { requests, deliveries: self.deliveries.clone(), connected: None };
            tokio::spawn(task::run(self.ctx.clone(), place, ends, self.probing));
            asks
        })
    }
}
