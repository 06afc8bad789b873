//! What holds leases cannot panic and go on: its process ends, and its supervisor sees to what it held.

use super::*;
use crate::{
    config::{Layers, Settings},
    jobs::engine::{
        allowance::Allowance,
        doorbell::Bell,
        held::{Delivered, Held, LeasedJob, Phase, Signals},
        leaser::{End, Ended, Leaser, Mode, Wiring, Wishes},
        relay::{Relay, Unwritten},
        scripts::LeaseFrom,
        writers::Writers,
    },
    vital::tests::assert_ends_its_process,
};
use std::{pin::Pin, sync::Arc};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn writing_outcomes() {
    assert_ends_its_process("jobs::engine::tests::panics::panicking_over_a_batch");
}

#[test]
fn leasing() {
    assert_ends_its_process("jobs::engine::tests::panics::panicking_over_an_end");
}

/// Servers that are away: a process that ends at once would leave its stores behind.
fn context() -> Context {
    let away = [("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none"), ("REDIS_URL", "redis://127.0.0.1:1")];
    let layers = Layers::new(away.map(|(name, value)| (name.to_owned(), value.to_owned())), &[]).unwrap();
    Context::open(Settings::load(&layers).unwrap()).unwrap()
}

fn standing() -> Standing {
    Standing { priority: 4, attempt: 1, failures: 0, snoozes: 0, returns: 0, crashes: 0 }
}

#[derive(Debug)]
struct Clumsy;

impl Relay for Clumsy {
    fn write(&self, _: Vec<u8>) -> Pin<Box<dyn Future<Output = Unwritten> + Send + '_>> {
        panic!("a mistake");
    }
}

#[tokio::test]
#[ignore = "ends its process: a test above runs it in another"]
async fn panicking_over_a_batch() {
    let ctx = context();
    let token = Token { job_id: JobId::new(), attempt: 1, nonce: Nonce::new() };
    let retry = RetryPolicy::DEFAULT;
    let delivery = Delivery { token, standing: standing(), retry, worker_id: "w".to_owned(), started_at: None, record: None };
    let conclusion = conclude(delivery, done(), ctx.clock.now(), 1.0);
    let mut writers = Writers::new(ctx, 2, 1, Some(Arc::new(Clumsy)), CancellationToken::new());
    writers.write(vec![conclusion]);
    timeout(PATIENCE, writers.written()).await.expect("the process has ended");
}

/// No handler asks for so long a pause; that it cannot be added to a time stands for any mistake.
#[tokio::test]
#[ignore = "ends its process: a test above runs it in another"]
async fn panicking_over_an_end() {
    let ctx = context();
    let keys = Arc::new(QueueKeys::new(&ctx.keys, &QueueName::default()));
    let token = Token { job_id: JobId::new(), attempt: 1, nonce: Nonce::new() };
    let (kind, run_at, signals) = (JobKind::new("debug.echo").unwrap(), ctx.clock.now(), Arc::new(Signals::default()));
    let held = Arc::new(Held::default());
    held.insert(Delivered {
        token,
        keys: Arc::clone(&keys),
        kind: kind.clone(),
        standing: standing(),
        run_at,
        phase: Phase::Reserved,
        signals: Arc::clone(&signals),
    });
    let job = LeasedJob {
        token,
        keys,
        kind,
        owner_id: UserId::new(),
        standing: standing(),
        payload: RawValue::from_string("1".to_owned()).unwrap(),
        run_at,
        expires_at: None,
        timeout: None,
        retry: RetryPolicy::DEFAULT,
        request_id: None,
        traceparent: None,
        record: None,
        signals,
    };
    let (ended, ended_rx) = mpsc::channel(1);
    ended.send(Ended { job: Arc::new(job), end: End::Outcome(Outcome::Snooze(Duration::MAX)) }).await.unwrap();
    let (_names, queues) = watch::channel(vec![QueueName::default()]);
    let mode = watch::Sender::new(Mode::Quiet);
    let wiring = Wiring {
        jobs: None,
        ended: ended_rx,
        queues,
        mode: mode.subscribe(),
        bell: Arc::new(Bell::default()),
        unknown_queue: Arc::new(Notify::new()),
        held,
        allowance: Arc::new(Allowance::new(1)),
        relay: None,
        give_up: CancellationToken::new(),
    };
    let wishes =
        Wishes { holder: worker(), from: LeaseFrom::Ready, prefetch: 1, settle_batch: 1, writers: 2, poll: Duration::from_secs(1) };
    timeout(PATIENCE, Leaser::new(ctx, wishes, wiring).unwrap().run()).await.expect("the process has ended");
}
