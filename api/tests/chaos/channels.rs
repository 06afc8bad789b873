//! Channels across failovers: two APIs, subscribers at both, publications all the while. A master is killed, another hangs; everybody
//! hears again, and what was missed is either recovered or announced.

use crate::{
    failover::{LIMIT, master, until_replaced},
    processes,
    programs::{Program, Programs},
    sockets::{Book, Follower, Publisher, Side, assert_agreement},
};
use nix::sys::signal::Signal;
use shared::{
    Context,
    testing::{RedisTopology, TestStores},
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    task::JoinHandle,
    time::{interval, timeout},
};

/// Enough that each master of a cluster has some.
const N_CHANNELS: usize = 12;
/// Of each channel, half of them at each API.
const N_SUBSCRIBERS: usize = 10;
/// So that what an outage keeps back is less than a channel's history.
const PACE: Duration = Duration::from_millis(50);
/// No number that is published before.
const LAST: u32 = u32::MAX;

/// One channel with everybody who has to do with it.
struct Room {
    channel: String,
    /// The last number that was accepted.
    accepted: Arc<AtomicU32>,
    /// The last number that each subscriber has heard.
    heard: Vec<Arc<AtomicU32>>,
    /// Masters of this channel that were lost.
    n_lost: usize,
    following: Vec<JoinHandle<Book>>,
    talking: JoinHandle<()>,
}

impl Room {
    async fn open(idx: usize, homes: [SocketAddr; 2], is_over: &Arc<AtomicBool>) -> Self {
        let channel = format!("chat:{idx}");
        let accepted = Arc::<AtomicU32>::default();
        let (mut heard, mut following) = (Vec::new(), Vec::new());
        for n in 0..N_SUBSCRIBERS {
            let homes = if n % 2 == 0 { homes } else { [homes[1], homes[0]] };
            let side = if n == 0 { Side::Server } else { Side::Client };
            let (mut follower, last) = (Follower::join(homes, &channel, side).await, Arc::<AtomicU32>::default());
            heard.push(Arc::clone(&last));
            following.push(tokio::spawn(async move {
                while last.load(Ordering::Relaxed) != LAST {
                    last.store(follower.hear().await, Ordering::Relaxed);
                }
                follower.book
            }));
        }
        let publisher = Publisher::connect(homes[idx % 2], &channel).await;
        let talking = tokio::spawn(talk(publisher, Arc::clone(&accepted), Arc::clone(is_over)));
        Self { channel, accepted, heard, n_lost: 0, following, talking }
    }

    /// Waits until everybody has heard something that was accepted after this was called.
    async fn until_heard(&self) {
        let now = self.accepted.load(Ordering::Relaxed);
        for last in &self.heard {
            while last.load(Ordering::Relaxed) <= now {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }

    fn key(&self, ctx: &Context) -> String {
        ctx.keys.channel_meta(&self.channel)
    }

    /// Who stands where, for the message of a failure.
    fn standing(&self) -> String {
        let heard: Vec<u32> = self.heard.iter().map(|last| last.load(Ordering::Relaxed)).collect();
        format!(
            "{}: accepted {}, heard {heard:?}, talking {}",
            self.channel,
            self.accepted.load(Ordering::Relaxed),
            !self.talking.is_finished()
        )
    }

    /// Ends when everybody has heard the last.
    async fn close(self) {
        let mut books = Vec::new();
        for following in self.following {
            books.push(following.await.unwrap());
        }
        self.talking.abort();
        assert_agreement(&books);
        for book in &books {
            assert_eq!(book.stretches.len(), 1 + self.n_lost, "what a lost master may have had alone is announced: {}", self.channel);
            assert!(book.unsubscribes.iter().all(|code| *code == 2500) && book.closes.iter().all(|code| *code == 3010), "{book:?}");
        }
    }
}

/// Publishes for ever; once it is over the last, again and again: whoever just begins anew hears the next one.
async fn talk(mut publisher: Publisher, accepted: Arc<AtomicU32>, is_over: Arc<AtomicBool>) {
    let mut pace = interval(PACE);
    for number in 1.. {
        let data = if is_over.load(Ordering::Relaxed) { LAST } else { number };
        publisher.publish([data], |data| accepted.store(data, Ordering::Relaxed)).await;
        pace.tick().await;
    }
}

pub(crate) async fn follow_across_failovers(topology: RedisTopology) {
    let mut stores = TestStores::create().await;
    stores.use_redis_url(topology.url());
    let (ctx, mut programs, is_over) = (stores.context(&[]), Programs::prepare(&stores), Arc::default());
    let apis: [(Program, SocketAddr); 2] = [programs.socket_api(), programs.socket_api()];
    let mut rooms = Vec::new();
    for idx in 0..N_CHANNELS {
        rooms.push(timeout(LIMIT, Room::open(idx, [apis[0].1, apis[1].1], &is_over)).await.expect("the APIs come up"));
    }
    let first_lost = strike(&ctx, &mut rooms, Signal::SIGKILL, None).await;
    topology.revive();
    strike(&ctx, &mut rooms, Signal::SIGSTOP, Some(first_lost)).await;
    is_over.store(true, Ordering::Relaxed);
    for room in rooms {
        let all_hear = async {
            while room.heard.iter().any(|last| last.load(Ordering::Relaxed) != LAST) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(LIMIT, all_hear).await.unwrap_or_else(|_| panic!("not everybody hears the last: {}", room.standing()));
        room.close().await;
    }
    std::fs::remove_dir_all(&programs.logs).unwrap();
}

/// Strikes the master of a channel, if there are several not the one that has taken over from `spared`'s room, whose replica is hardly back.
#[expect(clippy::print_stdout, reason = "the figures are what a run is for")]
async fn strike(ctx: &Context, rooms: &mut [Room], signal: Signal, spared: Option<usize>) -> usize {
    let mut masters = Vec::new();
    for room in &*rooms {
        room.until_heard().await;
        masters.push(master(ctx, &room.key(ctx)).await);
    }
    let is_spared = |idx: &usize| spared.is_some_and(|spared| masters[*idx] == masters[spared]);
    let struck = (0..rooms.len()).find(|idx| !is_spared(idx)).unwrap_or(0);
    let (began, lost) = (Instant::now(), masters[struck]);
    processes::send(lost, signal);
    until_replaced(ctx, &rooms[struck].key(ctx), lost).await;
    let replaced = began.elapsed();
    for (room, master) in rooms.iter_mut().zip(&masters) {
        room.n_lost += usize::from(*master == lost);
        timeout(LIMIT, room.until_heard()).await.expect("everybody hears again");
    }
    println!("{signal}: another master after {} ms, everybody hears after {} ms", replaced.as_millis(), began.elapsed().as_millis());
    // One that only hung goes on as if nothing were.
    processes::send(lost, Signal::SIGCONT);
    struck
}
