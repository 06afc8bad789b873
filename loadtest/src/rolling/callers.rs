//! Those who call meanwhile: readers, writers and waiters, each on a connection of its own, all on one thread.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use crate::client::{BodyRule, Failure, Link, Request, Scratch, parsed_id};
use crate::error::Error;

/// How often a writer sends what was not answered before it gives up.
const TRIES_MAX: u32 = 20;
/// Before the second try; it doubles, up to the last.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(1);
/// Each so many jobs are sent once more although they were answered: the other process must know them.
const REPEAT_EACH: u64 = 8;
/// Seconds that a waiter asks to wait; a restart comes before it is over.
const WAIT_S: u32 = 25;
/// Kinds of failures that are told apart.
const CAUSES_MAX: usize = 20;

/// What callers are told before they begin.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) peer: SocketAddr,
    pub(super) authority: String,
    pub(super) token: String,
    /// Where writers submit, and workers run.
    pub(super) queue: String,
    /// Where waiters submit, and nobody runs.
    pub(super) idle_queue: String,
    pub(super) timeout: Duration,
    pub(super) pause: Duration,
}

/// Requests that are not repeated: each is answered well, or has failed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Requests {
    pub answered: u64,
    pub failed: u64,
    /// Why they failed.
    pub causes: BTreeMap<String, u64>,
    pub slowest_ms: f64,
}

/// Jobs submitted with a key.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Submits {
    pub keys: u64,
    pub accepted: u64,
    /// Requests sent again, because the one before got no answer or 502, 503, 504, or met itself under way (409).
    pub retries: u64,
    /// Why.
    pub causes: BTreeMap<String, u64>,
    /// Keys that were sent again although they were answered.
    pub repeated: u64,
    /// Of these, and of retries, those that were told of another job.
    pub contradicted: u64,
    /// Keys that were refused, or not answered however often they were sent.
    pub given_up: u64,
    pub slowest_ms: f64,
    /// The jobs.
    #[serde(skip)]
    pub(super) ids: Vec<u128>,
}

/// What all of them count.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) gets: Requests,
    pub(super) submits: Submits,
    pub(super) waits: Requests,
}

impl Requests {
    fn note(&mut self, outcome: Result<(), String>, took: Duration) {
        self.slowest_ms = self.slowest_ms.max(took.as_secs_f64() * 1e3);
        match outcome {
            Ok(()) => self.answered += 1,
            Err(cause) => {
                self.failed += 1;
                count(&mut self.causes, cause);
            }
        }
    }
}

fn count(causes: &mut BTreeMap<String, u64>, cause: String) {
    let is_known = causes.contains_key(&cause) || causes.len() < CAUSES_MAX;
    *causes.entry(if is_known { cause } else { "others".to_owned() }).or_default() += 1;
}

/// So many of each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crowd {
    pub(super) readers: u32,
    pub(super) writers: u32,
    pub(super) waiters: u32,
}

/// Calls until `stop`, and until whatever was begun then is answered.
pub(super) fn call(site: &Site, crowd: Crowd, stop: &Arc<AtomicBool>) -> Result<Tally, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::failed)?;
    let tally = Rc::new(RefCell::new(Tally::default()));
    let local = tokio::task::LocalSet::new();
    let all = local.run_until(async {
        let mut tasks = Vec::new();
        for number in 0..crowd.readers + crowd.writers + crowd.waiters {
            let caller = Caller::new(site, number, stop, &tally);
            tasks.push(match number {
                number if number < crowd.readers => tokio::task::spawn_local(caller.read()),
                number if number < crowd.readers + crowd.writers => tokio::task::spawn_local(caller.write()),
                _ => tokio::task::spawn_local(caller.wait()),
            });
        }
        for task in tasks {
            task.await.map_err(Error::failed)??;
        }
        Ok::<_, Error>(())
    });
    runtime.block_on(all)?;
    let tally = tally.borrow().clone();
    Ok(tally)
}

struct Caller {
    site: Site,
    number: u32,
    link: Link,
    scratch: Scratch,
    stop: Arc<AtomicBool>,
    tally: Rc<RefCell<Tally>>,
}

/// What came back: the status and the body, or why nothing did.
type Answer = Result<(u16, Vec<u8>), Failure>;

impl Caller {
    fn new(site: &Site, number: u32, stop: &Arc<AtomicBool>, tally: &Rc<RefCell<Tally>>) -> Self {
        Self {
            site: site.clone(),
            number,
            link: Link::new(site.peer, None, BodyRule::Expected, site.timeout),
            scratch: Scratch::new(),
            stop: Arc::clone(stop),
            tally: Rc::clone(tally),
        }
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn bytes(&self, request: Request) -> Result<Box<[u8]>, Error> {
        request.with_bearer(&self.site.token).to_bytes(&self.site.authority).map_err(Error::usage)
    }

    fn count(&self, change: impl FnOnce(&mut Submits)) {
        change(&mut self.tally.borrow_mut().submits);
    }

    async fn send(&mut self, bytes: &[u8]) -> Answer {
        let mut body = Vec::new();
        let response = self.link.exchange(bytes, &self.scratch, |piece| body.extend_from_slice(piece)).await?;
        Ok((response.status, body))
    }

    /// Health, a row, a list, in turns. None is repeated: a reader who gets no answer sees a failure.
    async fn read(mut self) -> Result<(), Error> {
        let paths = [
            "/healthz".to_owned(),
            format!("/api/v1/queues/{}", self.site.queue),
            format!("/api/v1/jobs?queue={}&limit=5", self.site.queue),
        ];
        let requests = paths.into_iter().map(|path| self.bytes(Request::get(path))).collect::<Result<Vec<_>, Error>>()?;
        for request in requests.iter().cycle() {
            if self.is_over() {
                break;
            }
            let began = Instant::now();
            let answer = self.send(request).await;
            self.tally.borrow_mut().gets.note(well(&answer, &[200]), began.elapsed());
            tokio::time::sleep(self.site.pause).await;
        }
        Ok(())
    }

    /// Submits without a key and waits: 202 when the wait is over, however early that is.
    async fn wait(mut self) -> Result<(), Error> {
        let mut request = Request::post_json("/api/v1/jobs", &json!({"kind": "debug.echo", "queue": self.site.idle_queue, "payload": {}}));
        request.headers.push(("Prefer".to_owned(), format!("wait={WAIT_S}")));
        let request = self.bytes(request)?;
        while !self.is_over() {
            let began = Instant::now();
            let stop = Arc::clone(&self.stop);
            // Nobody waits for the last one: the load is over, and its connection goes with it.
            let answer = tokio::select! {
                answer = self.send(&request) => answer,
                () = until_set(&stop) => break,
            };
            self.tally.borrow_mut().waits.note(well(&answer, &[202]), began.elapsed());
            tokio::time::sleep(self.site.pause).await;
        }
        Ok(())
    }

    async fn write(mut self) -> Result<(), Error> {
        let mut n_sent = 0;
        while !self.is_over() {
            n_sent += 1;
            self.count(|submits| submits.keys += 1);
            let request = self.submit(n_sent)?;
            let began = Instant::now();
            if let Some(id) = self.deliver(&request).await {
                self.count(|submits| {
                    submits.slowest_ms = submits.slowest_ms.max(began.elapsed().as_secs_f64() * 1e3);
                    submits.accepted += 1;
                    submits.ids.push(id);
                });
                if n_sent % REPEAT_EACH == 0 {
                    let again = self.deliver(&request).await;
                    self.count(|submits| {
                        submits.repeated += 1;
                        submits.contradicted += u64::from(again.is_some_and(|again| again != id));
                    });
                }
            }
            tokio::time::sleep(self.site.pause).await;
        }
        Ok(())
    }

    fn submit(&self, number: u64) -> Result<Box<[u8]>, Error> {
        let body = json!({"kind": "debug.echo", "queue": self.site.queue, "payload": {"writer": self.number, "number": number}});
        let mut request = Request::post_json("/api/v1/jobs", &body);
        request.headers.push(("Idempotency-Key".to_owned(), format!("{}-{}-{number}", self.site.queue, self.number)));
        self.bytes(request)
    }

    /// Sends a submit until it is answered, as a careful client does.
    async fn deliver(&mut self, request: &[u8]) -> Option<u128> {
        let mut pause = RETRY_FIRST;
        for _ in 0..TRIES_MAX {
            let answer = self.send(request).await;
            if let Ok((202, body)) = &answer
                && let Some(id) = id_in(body)
            {
                return Some(id);
            }
            let cause = cause(&answer);
            self.count(|submits| count(&mut submits.causes, cause));
            if !is_worth_another_try(&answer) {
                break;
            }
            self.count(|submits| submits.retries += 1);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_LAST);
        }
        self.count(|submits| submits.given_up += 1);
        None
    }
}

async fn until_set(flag: &AtomicBool) {
    const LOOK_EVERY: Duration = Duration::from_millis(50);
    while !flag.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn well(answer: &Answer, expected: &[u16]) -> Result<(), String> {
    match answer {
        Ok((status, _)) if expected.contains(status) => Ok(()),
        Ok(_) | Err(_) => Err(cause(answer)),
    }
}

fn cause(answer: &Answer) -> String {
    match answer {
        Ok((status, _)) => format!("status {status}"),
        Err(failure) => failure.to_string(),
    }
}

fn is_worth_another_try(answer: &Answer) -> bool {
    match answer {
        Ok((status, _)) => [409, 502, 503, 504].contains(status),
        Err(Failure::Connect(_) | Failure::Timeout | Failure::Closed(_)) => true,
        Err(Failure::Malformed(_)) => false,
    }
}

fn id_in(body: &[u8]) -> Option<u128> {
    let body: Value = serde_json::from_slice(body).ok()?;
    parsed_id(body["id"].as_str()?)
}
