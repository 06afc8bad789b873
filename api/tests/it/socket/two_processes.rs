//! Two API processes on one Redis: every subscriber hears everything once and in order, and what it cannot hear is announced,
//! when Redis is killed under load as when one of the processes stops.

use crate::{
    process::ApiProcess,
    sockets::{Book, Follower, Publisher, Side, assert_agreement},
    support::TestApp,
};
use futures_util::{StreamExt, future::join_all, stream};
use nix::sys::signal::Signal;
use shared::testing::RedisServer;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::JoinHandle,
    time::{interval, timeout},
};

const CHANNEL: &str = "chat:1";
const N_SUBSCRIBERS: usize = 100;
const N_PUBLICATIONS: u32 = 10_000;
/// Of which Redis is killed in the middle.
const N_PUBLICATIONS_KILLED: u32 = 4_000;
const N_PUBLISHERS: u32 = 8;
/// No number that is published before.
const LAST: u32 = u32::MAX;
/// What takes longer hangs.
const LIMIT: Duration = Duration::from_secs(90);

/// Nobody is slow here but for lack of CPU.
const SETTINGS: &[(&str, &str)] =
    &[("REALTIME_INSECURE", "on"), ("WS_COMMANDS_PER_S", "0"), ("CHANNEL_LAYER_CAPACITY", "20000"), ("WS_OUTBOX_BYTES", "16MiB")];

async fn two_processes(app: &TestApp, overrides: &[(&str, &str)]) -> [ApiProcess; 2] {
    let settings = [SETTINGS, overrides].concat();
    [ApiProcess::start_with(app, &settings).await, ApiProcess::start_with(app, &settings).await]
}

/// As many at each process.
async fn subscribers(processes: &[ApiProcess; 2], side_of: impl Fn(usize) -> Side) -> Vec<Follower> {
    let [first, second] = processes.each_ref().map(|process| process.address);
    let joining = (0..N_SUBSCRIBERS).map(|idx| {
        let homes = if idx % 2 == 0 { [first, second] } else { [second, first] };
        Follower::join(homes, CHANNEL, side_of(idx))
    });
    join_all(joining).await
}

/// Publishes the numbers below `n`, by publishers at both processes; counts those that are accepted.
fn publishing(processes: &[ApiProcess; 2], n: u32, n_accepted: &Arc<AtomicUsize>) -> Vec<JoinHandle<usize>> {
    let share = n / N_PUBLISHERS;
    let publisher = |idx: u32| {
        let (home, n_accepted) = (processes[idx as usize % 2].address, Arc::clone(n_accepted));
        tokio::spawn(async move {
            let mut publisher = Publisher::connect(home, CHANNEL).await;
            publisher
                .publish(idx * share..(idx + 1) * share, |_| {
                    n_accepted.fetch_add(1, Ordering::Relaxed);
                })
                .await;
            publisher.n_refused
        })
    };
    (0..N_PUBLISHERS).map(publisher).collect()
}

async fn reaches(count: &AtomicUsize, n: usize) {
    while count.load(Ordering::Relaxed) < n {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_subscriber_hears_every_publication_of_both_processes_once_and_in_order() {
    let app = TestApp::start().await;
    let processes = two_processes(&app, &[]).await;
    let following = subscribers(&processes, |_| Side::Client).await.into_iter().map(|mut follower| {
        tokio::spawn(async move {
            for _ in 0..N_PUBLICATIONS {
                follower.hear().await;
            }
            follower.book
        })
    });
    let following: Vec<_> = following.collect();
    let published = join_all(publishing(&processes, N_PUBLICATIONS, &Arc::default())).await;
    assert!(published.into_iter().all(|refused| refused.unwrap() == 0));
    let books: Vec<Book> = timeout(LIMIT, join_all(following)).await.expect("all is heard").into_iter().map(Result::unwrap).collect();
    assert_agreement(&books);
    assert!(books.iter().all(|book| book.stretches.len() == 1 && book.closes.is_empty() && book.unsubscribes.is_empty()));
    let share = N_PUBLICATIONS / N_PUBLISHERS;
    let of_publisher = |idx: u32| books[0].stretches[0].data.iter().copied().filter(move |data| data / share == idx);
    assert!((0..N_PUBLISHERS).all(|idx| of_publisher(idx).eq(idx * share..(idx + 1) * share)), "each publisher's in its order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_gap_is_announced_when_redis_is_killed_under_load() {
    let mut redis = RedisServer::start().await;
    let app = TestApp::start().await;
    let processes = two_processes(&app, &[("REDIS_URL", &redis.url())]).await;
    let side_of = |idx| if idx % 10 == 0 { Side::Server } else { Side::Client };
    let following: Vec<_> = subscribers(&processes, side_of)
        .await
        .into_iter()
        .map(|mut follower| {
            tokio::spawn(async move {
                follower.hear_until(LAST).await;
                follower.book
            })
        })
        .collect();
    let n_accepted = Arc::default();
    let published = publishing(&processes, N_PUBLICATIONS_KILLED, &n_accepted);
    reaches(&n_accepted, N_PUBLICATIONS_KILLED as usize / 2).await;
    redis.kill();
    redis.restart().await;
    let refused: usize = join_all(published).await.into_iter().map(Result::unwrap).sum();
    assert!(refused > 0, "it was killed under load");
    // Somebody may not be subscribed again yet: then it hears the next one.
    let mut publisher = Publisher::connect(processes[0].address, CHANNEL).await;
    let saying_goodbye = async {
        loop {
            publisher.publish([LAST], |_| ()).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let books = tokio::select! {
        books = timeout(LIMIT, join_all(following)) => books.expect("everybody hears again"),
        () = saying_goodbye => unreachable!("it never ends"),
    };
    let books: Vec<Book> = books.into_iter().map(Result::unwrap).collect();
    assert_agreement(&books);
    for (idx, book) in books.iter().enumerate() {
        assert!(book.stretches.len() > 1, "a Redis that was killed may have forgotten something, and that is announced");
        let told = if side_of(idx) == Side::Client { &book.unsubscribes } else { &book.closes };
        assert!(!told.is_empty(), "subscriber {idx}: {:?} {:?}", book.unsubscribes, book.closes);
        assert!(book.unsubscribes.iter().all(|code| *code == 2500) && book.closes.iter().all(|code| *code == 3010));
    }
}

const N_LEAVING: usize = 2_000;
const N_CHANNELS: usize = 20;

/// Follows until [`LAST`]; `n_back` counts those who have come to another process.
async fn leave(mut follower: Follower, n_back: Arc<AtomicUsize>) -> Book {
    let (first_home, mut is_back) = (follower.home(), false);
    while follower.hear().await != LAST {
        if follower.home() != first_home && !std::mem::replace(&mut is_back, true) {
            n_back.fetch_add(1, Ordering::Relaxed);
        }
    }
    follower.book
}

/// Publishes now and then until `n_back` are back, and says so at the end.
async fn talk(mut publisher: Publisher, n_back: Arc<AtomicUsize>) {
    // So slowly that history holds all of it, however long coming back takes.
    let mut pace = interval(Duration::from_millis(500));
    for data in 0.. {
        publisher.publish([data], |_| ()).await;
        if n_back.load(Ordering::Relaxed) == N_LEAVING {
            break;
        }
        pace.tick().await;
    }
    publisher.publish([LAST], |_| ()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_on_a_process_that_stops_goes_to_the_other_and_misses_nothing() {
    let app = TestApp::start().await;
    // Nobody answers pings before all are there, which takes long on a busy machine.
    let settings = [("DRAIN_DELAY_S", "0"), ("WS_DRAIN_S", "3"), ("WS_PING_S", "600")];
    let [mut stopping, staying] = two_processes(&app, &settings).await;
    let (channel, n_back) = (|idx: usize| format!("chat:{}", idx % N_CHANNELS), Arc::<AtomicUsize>::default());
    let joining = (0..N_LEAVING).map(async |idx| Follower::join([stopping.address, staying.address], &channel(idx), Side::Client).await);
    let followers: Vec<Follower> = stream::iter(joining).buffer_unordered(64).collect().await;
    let following: Vec<_> = followers.into_iter().map(|follower| tokio::spawn(leave(follower, Arc::clone(&n_back)))).collect();
    let talking =
        (0..N_CHANNELS).map(async |idx| talk(Publisher::connect(staying.address, &channel(idx)).await, Arc::clone(&n_back)).await);
    stopping.signal(Signal::SIGTERM);
    timeout(LIMIT, join_all(talking)).await.expect("all come back");
    let left: Vec<Book> = timeout(LIMIT, join_all(following)).await.expect("all hear the last").into_iter().map(Result::unwrap).collect();
    for book in &left {
        assert_eq!((&book.closes[..], book.n_recovered), (&[3001][..], 1));
        assert_eq!(book.stretches.len(), 1, "nothing is missed");
    }
    let closed_at = || left.iter().flat_map(|book| &book.closed_at);
    let spread = *closed_at().max().unwrap() - *closed_at().min().unwrap();
    assert!(spread > Duration::from_secs(1), "they are not all sent away at once, but within {spread:?}");
    let status = timeout(LIMIT, stopping.child.wait()).await.expect("the process ends").unwrap();
    assert!(status.success(), "{status}");
}
