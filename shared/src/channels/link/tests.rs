//! The link against a real Redis: order, confirmation, healing, and that no loss goes untold.

use super::*;
use crate::{
    channels::{
        Addressee, Channel, Control, control,
        tests::{Channels, json, with_namespaces},
    },
    testing::{RedisServer, TestStores},
};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

struct Listener {
    link: Link,
    batches: mpsc::Receiver<Vec<Delivery>>,
    waiting: std::collections::VecDeque<Delivery>,
}

impl Listener {
    fn start(ctx: &Context) -> Self {
        Self::start_probing(ctx, PROBING)
    }

    fn start_probing(ctx: &Context, probing: Probing) -> Self {
        let (link, batches) = Link::start_probing(ctx.clone(), probing);
        Self { link, batches, waiting: std::collections::VecDeque::new() }
    }

    async fn subscribe(&self, names: impl IntoIterator<Item = &str>) {
        let names: Vec<_> = names.into_iter().map(|name| ChannelName::new(name).unwrap()).collect();
        // As its users do: Redis may be just about to come back.
        timeout(DEADLINE, async { while self.link.subscribe(names.clone()).await.is_err() {} }).await.expect("Redis confirms");
    }

    async fn next(&mut self) -> Delivery {
        while self.waiting.is_empty() {
            self.waiting.extend(timeout(DEADLINE, self.batches.recv()).await.expect("something is delivered").expect("the link goes on"));
        }
        self.waiting.pop_front().expect("there is one")
    }

    /// The next publication as text.
    async fn publication(&mut self) -> String {
        let next = self.next().await;
        let Delivery::Publication { channel, publication, .. } = next else { panic!("{next:?}") };
        format!("{channel} {} {}", publication.offset, str::from_utf8(&publication.body).unwrap())
    }
}

async fn on_a_server_of_its_own() -> (Channels, RedisServer) {
    let mut stores = TestStores::create().await;
    let server = RedisServer::start().await;
    stores.use_redis(&server);
    (Channels { ctx: with_namespaces(stores.context(&[])), stores }, server)
}

#[tokio::test]
async fn what_is_published_after_the_confirmation_is_delivered_in_order() {
    let channels = Channels::open().await;
    let mut listener = Listener::start(&channels.ctx);
    listener.subscribe(["kept:1", "live:1"]).await;
    let (kept, live) = (channels.channel("kept:1"), channels.channel("live:1"));
    let first = channels.publish(&kept, "1").await;
    channels.publish(&live, "2").await;
    channels.publish(&kept, "3").await;
    let Delivery::Publication { channel, epoch, publication } = listener.next().await else { panic!() };
    assert_eq!((channel, publication.offset, epoch), (kept.name.clone(), 1, first.epoch));
    assert_eq!(listener.publication().await, "live:1 0 {\"data\":2}");
    assert_eq!(listener.publication().await, "kept:1 2 {\"data\":3}");
}

#[tokio::test]
async fn a_channel_that_was_left_is_heard_no_more_until_it_is_joined_again() {
    let channels = Channels::open().await;
    let mut listener = Listener::start(&channels.ctx);
    listener.subscribe(["kept:1", "kept:2"]).await;
    let (one, two) = (channels.channel("kept:1"), channels.channel("kept:2"));
    listener.link.unsubscribe(vec![one.name.clone()]).await;
    listener.subscribe(["kept:3"]).await;
    channels.publish(&one, "1").await;
    channels.publish(&two, "2").await;
    assert_eq!(listener.publication().await, "kept:2 1 {\"data\":2}");
    listener.subscribe(["kept:1"]).await;
    channels.publish(&one, "3").await;
    assert_eq!(listener.publication().await, "kept:1 2 {\"data\":3}");
}

#[tokio::test]
async fn thousands_of_channels_are_confirmed() {
    let channels = Channels::open().await;
    let mut listener = Listener::start(&channels.ctx);
    let names: Vec<String> = (0..6_000).map(|n| format!("kept:{n}")).collect();
    listener.subscribe(names.iter().map(String::as_str)).await;
    for n in [0, 3_000, 5_999] {
        channels.publish(&channels.channel(&names[n]), "1").await;
        assert!(listener.publication().await.starts_with(&names[n]));
    }
}

#[tokio::test]
async fn an_order_for_connections_is_heard_by_every_process() {
    let channels = Channels::open().await;
    let mut listeners = [Listener::start(&channels.ctx), Listener::start(&channels.ctx)];
    for listener in &listeners {
        listener.subscribe(["kept:1"]).await;
    }
    let to = Addressee { user: Some("7".to_owned()), client: None };
    let order = Control::Unsubscribe { to, channel: ChannelName::new("chat:1").unwrap(), code: 2_000, reason: "r".to_owned() };
    control(&channels.ctx, &order).await.unwrap();
    for listener in &mut listeners {
        let Delivery::Control(heard) = listener.next().await else { panic!() };
        assert_eq!(serde_json::to_value(heard).unwrap(), serde_json::to_value(&order).unwrap());
    }
}

#[tokio::test]
async fn a_lost_connection_is_told_and_everything_is_heard_again() {
    let (channels, mut server) = on_a_server_of_its_own().await;
    let mut listener = Listener::start(&channels.ctx);
    let names: Vec<String> = (0..1_000).map(|n| format!("kept:{n}")).collect();
    listener.subscribe(names.iter().map(String::as_str)).await;
    for _ in 0..2 {
        server.kill();
        assert!(matches!(listener.next().await, Delivery::Lost));
        server.restart().await;
        assert!(matches!(listener.next().await, Delivery::Restored));
        let channel = channels.channel("kept:999");
        let data = json("1");
        let new = crate::channels::NewPublication::new(&data).unwrap();
        while crate::channels::publish(&channels.ctx, &channel, &new).await.is_err() {}
        assert_eq!(listener.publication().await, "kept:999 1 {\"data\":1}");
    }
}

#[tokio::test]
async fn a_subscription_is_refused_while_redis_is_away_and_made_once_it_is_back() {
    let (channels, mut server) = on_a_server_of_its_own().await;
    server.kill();
    let mut listener = Listener::start(&channels.ctx);
    let refused = listener.link.subscribe(vec![ChannelName::new("kept:1").unwrap()]).await;
    assert!(matches!(refused, Err(ChannelError::Failed(error)) if error.code == Code::RedisUnavailable));
    server.restart().await;
    listener.subscribe(["kept:1"]).await;
    while !redis_answers(&channels.ctx).await {}
    channels.publish(&channels.channel("kept:1"), "1").await;
    assert_eq!(listener.publication().await, "kept:1 1 {\"data\":1}");
}

async fn redis_answers(ctx: &Context) -> bool {
    ctx.redis.ping().await.is_ok()
}

/// Publishes as fast as it can while nobody takes what is delivered.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_receiver_misses_nothing_untold() {
    let (channels, _server) = on_a_server_of_its_own().await;
    let mut listener = Listener::start(&channels.ctx);
    listener.subscribe(["long:1"]).await;
    let long = channels.channel("long:1");
    const N: usize = 20_000;
    publish_many(&channels.ctx, &long, N, 3_000).await;
    let mut expected = 1;
    while expected <= u64::try_from(N).unwrap() {
        let next = listener.next().await;
        // 60 MB are more than Redis keeps for a reader that does not read.
        if matches!(next, Delivery::Lost) {
            return;
        }
        let Delivery::Publication { publication, .. } = next else { panic!("{next:?}") };
        assert_eq!(publication.offset, expected);
        expected += 1;
    }
}

async fn publish_many(ctx: &Context, channel: &Channel, n: usize, size: usize) {
    let data = json(&format!("\"{}\"", "x".repeat(size)));
    for _ in 0..n / 100 {
        let new = crate::channels::NewPublication::new(&data).unwrap();
        let published = futures_util::future::join_all((0..100).map(|_| crate::channels::publish(ctx, channel, &new))).await;
        assert!(published.iter().all(Result::is_ok));
    }
}

#[tokio::test]
async fn a_connection_that_stands_and_hears_nothing_is_replaced() {
    let (mut channels, server) = on_a_server_of_its_own().await;
    let proxy = Proxy::start(&server);
    for (name, value) in &mut channels.stores.variables {
        if name == "REDIS_URL" {
            *value = proxy.url();
        }
    }
    let channels = Channels { ctx: with_namespaces(channels.stores.context(&[])), ..channels };
    let probing = Probing { every: Duration::from_millis(20), patience: Duration::from_millis(300) };
    let mut listener = Listener::start_probing(&channels.ctx, probing);
    listener.subscribe(["kept:1"]).await;
    proxy.mute();
    assert!(matches!(listener.next().await, Delivery::Lost));
    proxy.unmute();
    assert!(matches!(listener.next().await, Delivery::Restored));
    channels.publish(&channels.channel("kept:1"), "1").await;
    assert_eq!(listener.publication().await, "kept:1 1 {\"data\":1}");
}

/// Stands between a process and Redis; while it is mute, connections that have subscribed hear nothing.
struct Proxy {
    path: PathBuf,
    is_mute: Arc<AtomicBool>,
}

impl Proxy {
    fn start(server: &RedisServer) -> Self {
        let upstream = server.url().trim_start_matches("redis+unix://").to_owned();
        let path = PathBuf::from(format!("{upstream}-proxy"));
        let (listener, is_mute) = (UnixListener::bind(&path).unwrap(), Arc::new(AtomicBool::new(false)));
        let mute = Arc::clone(&is_mute);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let upstream = UnixStream::connect(&upstream).await.unwrap();
                tokio::spawn(forward(client, upstream, Arc::clone(&mute)));
            }
        });
        Self { path, is_mute }
    }

    fn url(&self) -> String {
        format!("redis+unix://{}", self.path.display())
    }

    fn mute(&self) {
        self.is_mute.store(true, Ordering::SeqCst);
    }

    fn unmute(&self) {
        self.is_mute.store(false, Ordering::SeqCst);
    }
}

async fn forward(mut client: UnixStream, mut upstream: UnixStream, is_mute: Arc<AtomicBool>) {
    let (mut said, mut heard, mut listens, mut was_mute) = (vec![0; 65_536], vec![0; 65_536], false, false);
    loop {
        tokio::select! {
            read = client.read(&mut said) => {
                let Ok(n @ 1..) = read else { return };
                listens |= said[..n].windows(9).any(|word| word == b"SUBSCRIBE");
                upstream.write_all(&said[..n]).await.unwrap();
            }
            read = upstream.read(&mut heard) => {
                let Ok(n @ 1..) = read else { return };
                // Once it has swallowed something it must not go on in the middle of an answer.
                was_mute |= listens && is_mute.load(Ordering::SeqCst);
                if !was_mute && client.write_all(&heard[..n]).await.is_err() {
                    return;
                }
            }
        }
    }
}
