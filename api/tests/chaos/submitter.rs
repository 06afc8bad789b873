//! Submits batches of the mixture, several at a time, until each job is accepted, and notes every id that it was told.

use crate::{
    client::Client,
    mixture::{self, BATCH, Class, KEYED, PLAIN},
};
use futures_util::{StreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use time::OffsetDateTime;
use tokio::{sync::Notify, task::JoinHandle};

/// Batches on their way at once.
const AT_ONCE: usize = 4;

/// What the platform has said yes to, by id: the job's number.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    jobs: Mutex<HashMap<String, usize>>,
    /// An id that was given to two jobs.
    pub(crate) n_doubled: AtomicUsize,
    /// Too late when they were tried again.
    pub(crate) n_refused: AtomicUsize,
    /// Submits without a key whose answer did not come: they may be there or not.
    pub(crate) n_unanswered: AtomicUsize,
}

impl Accepted {
    pub(crate) fn len(&self) -> usize {
        self.jobs.lock().unwrap().len()
    }

    pub(crate) fn by_id(&self) -> HashMap<String, usize> {
        self.jobs.lock().unwrap().clone()
    }

    fn add(&self, id: &str, n: usize) {
        let before = self.jobs.lock().unwrap().insert(id.to_owned(), n);
        self.n_doubled.fetch_add(usize::from(before.is_some()), Ordering::Relaxed);
    }
}

/// Begins when it is told to, if `start` is there to tell it, and ends when every job of the batches is accepted, and every
/// cancel asked for.
pub(crate) fn submit(client: Client, accepted: Arc<Accepted>, batches: Vec<usize>, start: Option<Arc<Notify>>) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Some(start) = start.filter(|_| !batches.is_empty()) {
            start.notified().await;
        }
        let work = |batch| submit_batch(&client, &accepted, batch);
        stream::iter(batches).for_each_concurrent(AT_ONCE, work).await;
    })
}

async fn submit_batch(client: &Client, accepted: &Accepted, batch: usize) {
    let first = batch * BATCH;
    let now = OffsetDateTime::now_utc();
    let jobs: Vec<(usize, Value)> = (first..first + BATCH).map(|n| (n, mixture::submit(n, now))).collect();
    let (bulk, single) = jobs.split_at(BATCH - KEYED - PLAIN);
    let (keyed, plain) = single.split_at(KEYED);
    let in_bulk = submit_bulk(client, accepted, bulk.to_vec());
    let one_by_one = async {
        for (n, job) in keyed {
            submit_keyed(client, accepted, *n, job).await;
        }
        for (n, job) in plain {
            submit_plain(client, accepted, *n, job).await;
        }
    };
    tokio::join!(in_bulk, one_by_one);
}

async fn submit_bulk(client: &Client, accepted: &Accepted, mut jobs: Vec<(usize, Value)>) {
    let mut round = 0;
    // An item may be refused for the database's trouble while the request as a whole succeeds: it is then submitted anew.
    while !jobs.is_empty() {
        let key = format!("bulk-{}-{round}", jobs[0].0);
        let body = json!({"jobs": jobs.iter().map(|(_, job)| job).collect::<Vec<_>>()});
        let request = |client: &Client| client.request(Method::POST, "/jobs/bulk").header("idempotency-key", &key).json(&body);
        let (status, answer) = client.persist_json(request).await;
        assert_eq!(status, 207, "{answer}");
        let mut left = Vec::new();
        for ((n, job), item) in jobs.into_iter().zip(answer["items"].as_array().unwrap()) {
            match item["status"].as_u64() {
                Some(202) => take(client, accepted, n, item["id"].as_str().unwrap()).await,
                Some(500..) => left.push((n, job)),
                _ => refuse(accepted, n, item),
            }
        }
        (jobs, round) = (left, round + 1);
    }
}

async fn submit_keyed(client: &Client, accepted: &Accepted, n: usize, job: &Value) {
    let key = format!("job-{n}");
    let request = |client: &Client| client.request(Method::POST, "/jobs").header("idempotency-key", &key).json(job);
    let (status, answer) = client.persist_json(request).await;
    if status == 202 { take(client, accepted, n, answer["id"].as_str().unwrap()).await } else { refuse(accepted, n, &answer) }
}

/// Once: who sends no key cannot know whether a submit without an answer was written.
async fn submit_plain(client: &Client, accepted: &Accepted, n: usize, job: &Value) {
    let answer = client.request(Method::POST, "/jobs").json(job).send().await;
    let status = answer.as_ref().ok().map(|response| response.status().as_u16());
    let body: Option<Value> = match answer {
        Ok(response) => response.json().await.ok(),
        Err(_) => None,
    };
    match (status, body) {
        (Some(202), Some(body)) => take(client, accepted, n, body["id"].as_str().unwrap()).await,
        (Some(422), Some(body)) => refuse(accepted, n, &body),
        _ => drop(accepted.n_unanswered.fetch_add(1, Ordering::Relaxed)),
    }
}

async fn take(client: &Client, accepted: &Accepted, n: usize, id: &str) {
    accepted.add(id, n);
    if Class::of(n).is_cancelled() {
        client.cancel(id).await;
    }
}

fn refuse(accepted: &Accepted, n: usize, why: &Value) {
    assert!(Class::of(n).may_be_refused(), "job {n} was refused: {why}");
    accepted.n_refused.fetch_add(1, Ordering::Relaxed);
}
