//! Where remote workers wait for jobs: one task per process leases for all of them, so that a thousand that wait cost Redis no more
//! than one does.
//!
//! Nothing is leased ahead: a call asks for what one worker wants, and what it brings goes to that worker. Queues that gave less than
//! was asked for are left alone until they ring, until their rate lets the next job go, or until the next poll. Whoever has waited longest
//! is served first. Where an answer got lost, one job tells whether Redis is back, and [`Doubts`] hand back what the lost answers told of.

use super::{
    super::{
        QueueKeys,
        doorbell::{self, Bell},
        scripts::{self, Action, Finish, Holder, Leased, Step},
        token::Token,
    },
    doubts::Doubts,
};
use crate::{Context, Result, jobs::QueueName, vital::steadily};
use futures_util::future::join_all;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

/// Wishes that the task has not taken in yet.
const WISHES_MAX: usize = 1_024;
/// Workers that are served at once from one queue that has plenty.
const SERVED_AT_ONCE: usize = 8;
/// After Redis did not answer.
const PAUSE: Duration = Duration::from_millis(100);

/// What a worker waits for.
#[derive(Debug)]
struct Wish {
    holder: Holder,
    queues: Vec<QueueName>,
    want: usize,
    answer: oneshot::Sender<Batch>,
}

/// The desk of this process; its task begins with the first wish, and anew with the first after it has panicked.
#[derive(Debug, Default)]
pub struct Desk {
    wishes: Mutex<Option<mpsc::Sender<Wish>>>,
}

impl Desk {
    /// Waits for up to `want` jobs of `queues`; `None` when there is none by `deadline`. `ctx` is that of the process, and `runtime`
    /// where it lives.
    pub async fn wait(
        &self,
        ctx: &Context,
        runtime: &tokio::runtime::Handle,
        holder: &Holder,
        (queues, want): (Vec<QueueName>, usize),
        deadline: Instant,
    ) -> Option<Batch> {
        let wishes = self.wishes(ctx, runtime);
        let (answer, batch) = oneshot::channel();
        let asked = async {
            wishes.send(Wish { holder: holder.clone(), queues, want, answer }).await.ok()?;
            batch.await.ok()
        };
        tokio::time::timeout_at(deadline.into(), asked).await.ok().flatten()
    }

    fn wishes(&self, ctx: &Context, runtime: &tokio::runtime::Handle) -> mpsc::Sender<Wish> {
        let mut wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = wishes.as_ref().filter(|sender| !sender.is_closed()) {
            return sender.clone();
        }
        let (sender, receiver) = mpsc::channel(WISHES_MAX);
        runtime.spawn(serve(ctx.clone(), receiver));
        wishes.insert(sender).clone()
    }
}

/// Jobs leased for one worker. Dropped before [`Batch::hand_over`], they go back unspent.
#[derive(Debug)]
pub struct Batch {
    ctx: Context,
    pub keys: Arc<QueueKeys>,
    pub holder: Holder,
    leased: Vec<Leased>,
}

impl Batch {
    pub fn leased(&self) -> &[Leased] {
        &self.leased
    }

    pub(super) fn token(&self, leased: &Leased) -> Token {
        Token { job_id: leased.id, attempt: leased.standing.attempt, nonce: self.holder.nonce }
    }

    /// The worker has them now, or they were ended one by one.
    pub fn hand_over(mut self) {
        self.leased.clear();
    }

    pub(super) fn release(&self, leased: &Leased) -> Finish {
        let standing = super::super::Standing { attempt: leased.standing.attempt - 1, ..leased.standing };
        Finish { token: self.token(leased), action: Action::Release, standing }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let finish: Vec<Finish> = self.leased.iter().map(|leased| self.release(leased)).collect();
        if finish.is_empty() {
            return;
        }
        let (ctx, keys) = (self.ctx.clone(), Arc::clone(&self.keys));
        ctx.jobs.runtime.clone().spawn(async move {
            tracing::debug!(queue = %keys.queue, n_jobs = finish.len(), "handing back what no worker took");
            if let Err(error) = give_back(&ctx, &keys, finish).await {
                tracing::warn!(%error, queue = %keys.queue, "leases that no worker took stay until they expire");
            }
        });
    }
}

async fn give_back(ctx: &Context, keys: &QueueKeys, finish: Vec<Finish>) -> Result<()> {
    super::super::apply(ctx, keys, finish).await?;
    scripts::ring(&mut ctx.redis.connection(), keys).await
}

/// A queue that somebody waits for.
#[derive(Debug)]
struct Counter {
    keys: Arc<QueueKeys>,
    /// Workers that the next round may serve from it; 0 until it rings.
    places: usize,
    /// The last call did not answer, and may have leased all the same: the next asks for one job.
    is_in_doubt: bool,
    /// When its rate lets the next job go, where that is what kept it from giving more.
    again_at: Option<Instant>,
}

struct Server {
    ctx: Context,
    /// The longest wait first.
    waiting: Vec<Wish>,
    counters: HashMap<QueueName, Counter>,
    doubts: Doubts,
    resume_at: Option<Instant>,
}

async fn serve(ctx: Context, mut wishes: mpsc::Receiver<Wish>) {
    let bell = Arc::new(Bell::default());
    let hearing = (ctx.clone(), Arc::clone(&bell));
    let listen = async move { steadily("doorbell", || doorbell::listen(&hearing.0, &hearing.1, None)).await };
    let _listening = AbortOnDropHandle::new(tokio::spawn(listen));
    let mut polls = interval(Duration::from_millis(ctx.settings().worker_poll_ms));
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut server = Server { ctx, waiting: Vec::new(), counters: HashMap::new(), doubts: Doubts::default(), resume_at: None };
    loop {
        while let Ok(wish) = wishes.try_recv() {
            server.take(wish);
        }
        if server.resume_at.is_none() && server.round().await {
            continue;
        }
        let resume_at = server.resume_at.unwrap_or_else(Instant::now);
        // A queue with a rate is asked again when that lets a job go, not before and no later.
        let again_at = server.counters.values().filter_map(|counter| counter.again_at).min();
        let (again_at, has_again) = (again_at.unwrap_or_else(Instant::now), again_at.is_some());
        tokio::select! {
            wish = wishes.recv() => match wish {
                Some(wish) => server.take(wish),
                // The process is ending.
                None => return,
            },
            () = bell.rung() => server.hear(&bell),
            _ = polls.tick() => {
                server.poll();
                server.doubts.settle(&server.ctx).await;
            }
            () = sleep_until(resume_at.into()), if server.resume_at.is_some() => server.resume_at = None,
            () = sleep_until(again_at.into()), if has_again => server.rouse(),
        }
    }
}

impl Server {
    fn take(&mut self, wish: Wish) {
        for queue in &wish.queues {
            let keys = || Arc::new(QueueKeys::new(&self.ctx.keys, queue));
            // Nobody was listening for it until now.
            let new = || Counter { keys: keys(), places: 1, is_in_doubt: false, again_at: None };
            self.counters.entry(queue.clone()).or_insert_with(new);
        }
        self.waiting.push(wish);
    }

    fn hear(&mut self, bell: &Bell) {
        for queue in bell.take() {
            if let Some(counter) = self.counters.get_mut(&queue) {
                counter.places = counter.places.max(1);
            }
        }
    }

    /// Looks again at queues whose rate lets a job go now.
    fn rouse(&mut self) {
        let now = Instant::now();
        for counter in self.counters.values_mut().filter(|counter| counter.again_at.is_some_and(|at| at <= now)) {
            counter.again_at = None;
            counter.places = counter.places.max(1);
        }
    }

    /// Looks again at every queue that is waited for, and forgets the others unless there is doubt about them.
    fn poll(&mut self) {
        self.waiting.retain(|wish| !wish.answer.is_closed());
        let waiting = &self.waiting;
        self.counters.retain(|queue, counter| counter.is_in_doubt || waiting.iter().any(|wish| wish.queues.contains(queue)));
        for counter in self.counters.values_mut() {
            counter.places = counter.places.max(1);
        }
    }

    /// Serves those whose turn it is; `false` when there was nobody to serve or nothing to serve from.
    async fn round(&mut self) -> bool {
        let served = self.plan();
        if served.is_empty() {
            return false;
        }
        let connection = self.ctx.redis.connection();
        let calls = served.iter().map(|(wish, keys)| {
            let mut connection = connection.clone();
            let is_in_doubt = self.counters.get(&keys.queue).is_some_and(|counter| counter.is_in_doubt);
            let step = Step { want: if is_in_doubt { 1 } else { wish.want }, ..Step::default() };
            async move { scripts::step(&mut connection, keys, &wish.holder, &step).await }
        });
        let answers = join_all(calls).await;
        let mut unserved = Vec::new();
        for ((wish, keys), answer) in served.into_iter().zip(answers) {
            let counter = self.counters.get_mut(&keys.queue).expect("counters are only dropped between rounds");
            counter.is_in_doubt = answer.is_err();
            match answer {
                Ok(stepped) => {
                    counter.places = if stepped.more { SERVED_AT_ONCE } else { 0 };
                    counter.again_at = stepped.again_after.map(|after| Instant::now() + after);
                    if stepped.leased.is_empty() {
                        unserved.push(wish);
                    } else {
                        let batch = Batch { ctx: self.ctx.clone(), keys, holder: wish.holder, leased: stepped.leased };
                        // Who has gone meanwhile leaves the batch to be dropped, which hands it back.
                        drop(wish.answer.send(batch));
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, queue = %keys.queue, "nothing can be leased at the moment");
                    counter.places = 1;
                    self.doubts.note(&keys, wish.holder.nonce);
                    self.resume_at = Some(Instant::now() + PAUSE);
                    unserved.push(wish);
                }
            }
        }
        // They have waited longer than the others.
        unserved.append(&mut self.waiting);
        self.waiting = unserved;
        true
    }

    /// Takes those who are served next out of the line, each with the queue that it is served from.
    fn plan(&mut self) -> Vec<(Wish, Arc<QueueKeys>)> {
        if self.counters.values().all(|counter| counter.places == 0) {
            return Vec::new();
        }
        let (mut served, mut others) = (Vec::new(), Vec::with_capacity(self.waiting.len()));
        for mut wish in std::mem::take(&mut self.waiting) {
            if wish.answer.is_closed() {
                continue;
            }
            match wish.queues.iter().position(|queue| self.counters.get(queue).is_some_and(|counter| counter.places > 0)) {
                Some(at) => {
                    let counter = self.counters.get_mut(&wish.queues[at]).expect("it was found a line above");
                    counter.places -= 1;
                    // So that no queue is always first.
                    wish.queues.rotate_left(at + 1);
                    served.push((wish, Arc::clone(&counter.keys)));
                }
                None => others.push(wish),
            }
        }
        self.waiting = others;
        served
    }
}
