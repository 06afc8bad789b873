//! The fan-out of one process: it hears each publication once, frames it once, and passes it on to the threads that have
//! subscribers. It knows threads, not sockets.
//!
//! Backpressure, never loss: a thread that is behind holds up the fan-out, which holds up the link, which stops reading.

use super::{following, hub::Hub, protocol::reply};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use shared::{
    Context,
    channels::{ChannelName, Control, Delivery, Link, Publication},
    vital::vital,
};
use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;

/// Batches that wait for a thread; each is what one read from Redis brought. A thread takes them all at once.
pub(super) const BATCHES_WAITING: usize = 64;
/// What threads may have asked without having been heard.
const ASKS_WAITING: usize = 8_192;
/// Channels in one request to the link.
const CHANNELS_AT_ONCE: usize = 512;

/// What a thread's hub is told.
#[derive(Debug, Clone)]
pub(super) enum Broadcast {
    Publication {
        channel: ChannelName,
        epoch: Arc<str>,
        publication: Publication,
        /// The push, whole.
        frame: Bytes,
    },
    /// Somebody came or left; the push, whole.
    Presence {
        channel: ChannelName,
        frame: Bytes,
    },
    /// Whether the thread now hears the channel; comes before everything that it hears of it.
    Listening {
        channel: ChannelName,
        is_confirmed: bool,
    },
    Control(Arc<Control>),
    /// Publications may have been missed: positions are to be compared.
    Restored,
    /// The process stops: sockets are to be closed over this time.
    Drain(Duration),
}

pub(super) type Batch = Vec<Broadcast>;

/// Which thread.
pub(super) type HubId = usize;

#[derive(Debug)]
enum Ask {
    Register { hub: HubId, batches: mpsc::Sender<Batch> },
    Listen { hub: HubId, channel: ChannelName },
    Forget { hub: HubId, channel: ChannelName },
    Drain(Duration),
}

/// How threads talk to the fan-out.
#[derive(Debug)]
pub(super) struct Fanout {
    asks: mpsc::Sender<Ask>,
    n_hubs: AtomicUsize,
}

/// More is asked than is heard; it passes.
#[derive(Debug)]
pub(super) struct Busy;

impl Fanout {
    /// Starts on the runtime that this is called on: one that nothing blocks.
    pub(super) fn start(ctx: Context) -> Self {
        let (asks, asked) = mpsc::channel(ASKS_WAITING);
        let (link, deliveries) = Link::start(ctx.clone());
        let task =
            Task { ctx, link, routes: HashMap::new(), hubs: Vec::new(), backlog: VecDeque::new(), n_routes_made: 0, under_way: None };
        tokio::spawn(vital("fan-out", task.run(deliveries, asked)));
        Self { asks, n_hubs: AtomicUsize::new(0) }
    }

    /// A number for a thread, and the queue it will be told by.
    pub(super) fn register(&self) -> (HubId, mpsc::Receiver<Batch>) {
        let hub = self.n_hubs.fetch_add(1, Ordering::Relaxed);
        let (batches, receiver) = mpsc::channel(BATCHES_WAITING);
        // Without a fan-out, which ends with its runtime alone, there is nobody to serve.
        let _ = self.asks.try_send(Ask::Register { hub, batches });
        (hub, receiver)
    }

    /// Tells every thread to close its sockets.
    pub(super) async fn drain(&self, window: Duration) {
        // Without a fan-out there are no threads.
        let _ = self.asks.send(Ask::Drain(window)).await;
    }

    pub(super) fn listen(&self, hub: &Hub, channel: ChannelName) -> Result<(), Busy> {
        self.asks.try_send(Ask::Listen { hub: hub.id, channel }).map_err(|_| Busy)
    }

    pub(super) fn forget(&self, hub: &Hub, channel: ChannelName) -> Result<(), Busy> {
        self.asks.try_send(Ask::Forget { hub: hub.id, channel }).map_err(|_| Busy)
    }
}

/// Where a channel's publications go.
#[derive(Debug)]
struct Route {
    hubs: Vec<HubId>,
    is_confirmed: bool,
    /// Tells it from an earlier route of the channel, whose changes may still be under way.
    generation: u64,
}

/// A change to what the link listens to. They are made one after the other, or the last would not be what holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Listen,
    Forget,
}

/// What came of changes that were made together.
struct Made {
    change: Change,
    channels: Vec<(ChannelName, u64)>,
    is_done: bool,
}

struct Task {
    ctx: Context,
    link: Link,
    routes: HashMap<ChannelName, Route>,
    hubs: Vec<Option<mpsc::Sender<Batch>>>,
    /// With the generation of the route that a change is for.
    backlog: VecDeque<(Change, ChannelName, u64)>,
    n_routes_made: u64,
    under_way: Option<BoxFuture<'static, Made>>,
}

impl Task {
    async fn run(mut self, mut deliveries: mpsc::Receiver<Vec<Delivery>>, mut asks: mpsc::Receiver<Ask>) {
        let mut asked = Vec::with_capacity(CHANNELS_AT_ONCE);
        loop {
            let batches = tokio::select! {
                batch = deliveries.recv() => match batch {
                    Some(batch) => self.route(batch),
                    None => return,
                },
                n_asked = asks.recv_many(&mut asked, CHANNELS_AT_ONCE) => match n_asked {
                    0 => return,
                    _ => self.hear(asked.drain(..)),
                },
                made = async { self.under_way.as_mut().expect("it is looked at only if it is there").await }, if self.under_way.is_some() => {
                    self.under_way = None;
                    self.settle(made)
                }
            };
            self.begin_changes();
            for (hub, batch) in batches.into_iter().enumerate() {
                if !batch.is_empty() {
                    self.tell(hub, batch).await;
                }
            }
        }
    }

    /// Waits while the thread is behind. One that is gone is forgotten.
    async fn tell(&mut self, hub: HubId, batch: Batch) {
        if let Some(Some(batches)) = self.hubs.get(hub)
            && batches.send(batch).await.is_err()
        {
            self.hubs[hub] = None;
        }
    }

    /// What each thread is to be told of `deliveries`.
    fn route(&self, deliveries: Vec<Delivery>) -> Vec<Batch> {
        let mut batches = vec![Batch::new(); self.hubs.len()];
        for delivery in deliveries {
            match delivery {
                Delivery::Publication { channel, epoch, publication } => {
                    let Some(route) = self.routes.get(&channel) else { continue };
                    let frame = reply::publication(channel.as_str(), &publication);
                    put(&mut batches, &route.hubs, &Broadcast::Publication { channel, epoch, publication, frame });
                }
                Delivery::Join { channel, info } => self.route_presence(&mut batches, channel, "join", &info),
                Delivery::Leave { channel, info } => self.route_presence(&mut batches, channel, "leave", &info),
                Delivery::Control(control) => put_to_all(&mut batches, &Broadcast::Control(control.into())),
                Delivery::Lost => tracing::warn!("publications are not heard; sockets stay open"),
                Delivery::Restored => {
                    tracing::info!("publications are heard again");
                    put_to_all(&mut batches, &Broadcast::Restored);
                }
            }
        }
        batches
    }

    fn route_presence(&self, batches: &mut [Batch], channel: ChannelName, kind: &'static str, info: &[u8]) {
        if let Some(route) = self.routes.get(&channel) {
            let frame = reply::presence_push(channel.as_str(), kind, info);
            put(batches, &route.hubs, &Broadcast::Presence { channel, frame });
        }
    }

    /// What can be answered at once is; the rest waits for the link.
    fn hear(&mut self, asks: impl Iterator<Item = Ask>) -> Vec<Batch> {
        let mut batches = vec![Batch::new(); self.hubs.len()];
        for ask in asks {
            match ask {
                Ask::Register { hub, batches: sender } => {
                    let n_hubs = self.hubs.len().max(hub + 1);
                    self.hubs.resize(n_hubs, None);
                    batches.resize(n_hubs, Batch::new());
                    self.hubs[hub] = Some(sender);
                }
                Ask::Listen { hub, channel } => {
                    if let Some(route) = self.routes.get_mut(&channel) {
                        route.hubs.push(hub);
                        if route.is_confirmed {
                            batches[hub].push(Broadcast::Listening { channel, is_confirmed: true });
                        }
                        continue;
                    }
                    self.n_routes_made += 1;
                    let generation = self.n_routes_made;
                    self.backlog.push_back((Change::Listen, channel.clone(), generation));
                    self.routes.insert(channel, Route { hubs: vec![hub], is_confirmed: false, generation });
                }
                Ask::Forget { hub, channel } => self.forget(hub, channel),
                Ask::Drain(window) => put_to_all(&mut batches, &Broadcast::Drain(window)),
            }
        }
        batches
    }

    fn forget(&mut self, hub: HubId, channel: ChannelName) {
        let Some(route) = self.routes.get_mut(&channel) else { return };
        route.hubs.retain(|of| *of != hub);
        if route.hubs.is_empty() {
            self.backlog.push_back((Change::Forget, channel.clone(), route.generation));
            self.routes.remove(&channel);
        }
    }

    /// Begins the changes at the head of the backlog that are of one kind, unless others are under way.
    fn begin_changes(&mut self) {
        let Some(change) = self.backlog.front().map(|(change, ..)| *change).filter(|_| self.under_way.is_none()) else { return };
        let n_alike = self.backlog.iter().take(CHANNELS_AT_ONCE).take_while(|(of, ..)| *of == change).count();
        let channels: Vec<_> = self.backlog.drain(..n_alike).map(|(_, channel, generation)| (channel, generation)).collect();
        let names: Vec<_> = channels.iter().map(|(channel, _)| channel.clone()).collect();
        let (ctx, link) = (self.ctx.clone(), self.link.clone());
        self.under_way = Some(Box::pin(async move {
            let is_done = match change {
                Change::Listen => {
                    let is_heard = link.subscribe(names.clone()).await.is_ok();
                    if is_heard {
                        following::follow(&ctx, &names).await;
                    }
                    is_heard
                }
                Change::Forget => {
                    following::unfollow(&ctx, &names);
                    link.unsubscribe(names).await;
                    true
                }
            };
            Made { change, channels, is_done }
        }));
    }

    /// Tells the threads that wait for channels. What the link does not confirm is given up: whoever wants it asks again.
    fn settle(&mut self, made: Made) -> Vec<Batch> {
        let mut batches = vec![Batch::new(); self.hubs.len()];
        if made.change == Change::Forget {
            return batches;
        }
        for (channel, generation) in made.channels {
            // It may have been forgotten, and even asked for again, since: then its own change comes behind this one.
            let Some(route) = self.routes.get_mut(&channel).filter(|route| route.generation == generation) else { continue };
            route.is_confirmed = made.is_done;
            let hubs = if made.is_done { route.hubs.clone() } else { mem::take(&mut route.hubs) };
            if !made.is_done {
                self.routes.remove(&channel);
                self.backlog.push_back((Change::Forget, channel.clone(), generation));
            }
            put(&mut batches, &hubs, &Broadcast::Listening { channel, is_confirmed: made.is_done });
        }
        batches
    }
}

fn put(batches: &mut [Batch], hubs: &[HubId], broadcast: &Broadcast) {
    for hub in hubs {
        batches[*hub].push(broadcast.clone());
    }
}

fn put_to_all(batches: &mut [Batch], broadcast: &Broadcast) {
    for batch in batches {
        batch.push(broadcast.clone());
    }
}
