//! The leasing task against a worker that this test plays: what counts against the prefetch, and what waits for PostgreSQL.

use super::*;
use crate::jobs::engine::{
    allowance::Allowance,
    doorbell::Bell,
    held::{Held, LeasedJob},
    leaser::{End, Ended, Leaser, Mode, Wiring, Wishes},
    scripts::LeaseFrom,
};
use std::sync::Arc;
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const PREFETCH: usize = 4;
const BATCH: usize = 4;
/// Two batches on their way and four that wait.
const MARKED_MAX: usize = 6 * BATCH;

/// A running leasing task, and the worker's ends of it.
struct Played {
    jobs: mpsc::Receiver<Arc<LeasedJob>>,
    ended: mpsc::Sender<Ended>,
    mode: watch::Sender<Mode>,
    held: Arc<Held>,
    leaser: JoinHandle<()>,
    _queues: watch::Sender<Vec<QueueName>>,
}

impl Played {
    fn new(fixture: &Fixture) -> Self {
        let (jobs_tx, jobs) = mpsc::channel(PREFETCH);
        let (ended, ended_rx) = mpsc::channel(PREFETCH);
        let (queues, consumed) = watch::channel(vec![fixture.queue.clone()]);
        let mode = watch::Sender::new(Mode::Lease);
        let held = Arc::new(Held::default());
        let wishes = Wishes {
            holder: worker(),
            from: LeaseFrom::Ready,
            prefetch: PREFETCH,
            settle_batch: BATCH,
            writers: 2,
            poll: Duration::from_millis(10),
        };
        let wiring = Wiring {
            jobs: Some(jobs_tx),
            ended: ended_rx,
            queues: consumed,
            mode: mode.subscribe(),
            bell: Arc::new(Bell::default()),
            unknown_queue: Arc::new(Notify::new()),
            held: Arc::clone(&held),
            allowance: Arc::new(Allowance::new(PREFETCH)),
            relay: None,
            give_up: CancellationToken::new(),
        };
        let leaser = Leaser::new(fixture.ctx.clone(), wishes, wiring).unwrap();
        Self { jobs, ended, mode, held, leaser: tokio::spawn(leaser.run()), _queues: queues }
    }

    /// Runs one job; `None` when none comes within `patience`.
    async fn run_one(&mut self, fixture: &Fixture, patience: Duration) -> Option<JobId> {
        let job = timeout(patience, self.jobs.recv()).await.ok()??;
        assert!(self.held.start(job.token, fixture.ctx.clock.now()));
        let id = job.id();
        self.ended.send(Ended { job, end: End::Outcome(done()) }).await.unwrap();
        Some(id)
    }

    /// Settles everything and ends.
    async fn flush(self) {
        self.mode.send_replace(Mode::Flush);
        timeout(Duration::from_secs(20), self.leaser).await.expect("everything is settled").unwrap();
    }
}

async fn n_succeeded(fixture: &Fixture) -> i64 {
    let query = sqlx::query_scalar("SELECT count(*) FROM jobs_ended WHERE state = 'succeeded'");
    query.fetch_one(&fixture.ctx.pg).await.unwrap()
}

/// Leasing goes on while outcomes are being written, up to a limit; what waited is written once the database answers.
#[tokio::test]
async fn what_is_marked_leaves_the_prefetch_and_is_bounded() {
    let fixture = Fixture::new().await;
    let n_jobs = MARKED_MAX + 4 * PREFETCH;
    for _ in 0..n_jobs {
        fixture.job().await;
    }
    let mut blocker = fixture.ctx.pg.begin().await.unwrap();
    sqlx::query("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE").execute(&mut *blocker).await.unwrap();
    let mut played = Played::new(&fixture);
    let mut n_run = 0;
    while n_run < n_jobs && played.run_one(&fixture, Duration::from_secs(1)).await.is_some() {
        n_run += 1;
    }
    assert!(n_run > PREFETCH + BATCH, "{n_run} ran: those being written count against the prefetch");
    assert!(n_run <= MARKED_MAX + PREFETCH, "{n_run} ran: what waits for the database is not bounded");
    blocker.rollback().await.unwrap();
    while n_run < n_jobs {
        played.run_one(&fixture, Duration::from_secs(20)).await.expect("leasing goes on");
        n_run += 1;
    }
    played.flush().await;
    assert_eq!(n_succeeded(&fixture).await, i64::try_from(n_jobs).unwrap());
    let n_copies: i64 = redis::cmd("HLEN").arg(fixture.keys.att()).query_async(&mut fixture.connection.clone()).await.unwrap();
    assert_eq!(n_copies, 0, "Redis has heard of every end");
}

/// A connection that broke between two batches is replaced; nothing is lost with it.
#[tokio::test]
async fn a_broken_connection_of_a_writer_is_replaced() {
    let fixture = Fixture::new().await;
    let mut played = Played::new(&fixture);
    for n_done in 1..=2 {
        fixture.job().await;
        played.run_one(&fixture, Duration::from_secs(20)).await.expect("the job is leased");
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while n_succeeded(&fixture).await < n_done {
            assert!(tokio::time::Instant::now() < deadline, "outcome {n_done} is written");
            tokio::task::yield_now().await;
        }
        let of_writers = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND query LIKE '%INTO jobs_ended%' AND pid <> pg_backend_pid()";
        sqlx::query(of_writers).execute(&fixture.ctx.pg).await.unwrap();
    }
    played.flush().await;
}
