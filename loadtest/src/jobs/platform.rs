//! What a run asks of the platform beside its load: a queue of its own, how that stands, what became of its jobs, and to
//! clear up afterwards.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{Method, Request, parsed_id, shown_id};
use crate::control::Control;
use crate::error::Error;
use crate::session::Identity;

const QUEUES: &str = "/api/v1/queues";
const JOBS: &str = "/api/v1/jobs";
/// Life that a token must have left when a question is asked.
const TOKEN_LASTS: Duration = Duration::from_secs(60);
/// A platform whose servers are being restarted under load answers 5xx or nothing for a while; questions are asked again.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// A purge goes on for seconds at a time; this many end a queue of millions.
const PURGES_MAX: u32 = 200;
const PAGE: u32 = 1_000;
const ENDED: [&str; 4] = ["succeeded", "dead", "cancelled", "expired"];

/// The platform, asked one question at a time.
pub(crate) struct Platform {
    control: Control,
    identity: Identity,
}

/// One page of the jobs of a queue.
#[derive(Debug, Deserialize)]
pub(crate) struct JobsPage {
    pub(crate) items: Vec<JobSeen>,
    pub(crate) next_cursor: Option<String>,
}

/// What the ledger wants to know of a job.
#[derive(Debug, Deserialize)]
pub(crate) struct JobSeen {
    #[serde(deserialize_with = "id")]
    pub(crate) id: u128,
    pub(crate) state: String,
    pub(crate) attempt: u32,
}

impl Platform {
    pub(crate) fn new(control: Control, identity: Identity) -> Self {
        Self { control, identity }
    }

    /// The token to send load with for `needed_for`.
    pub(crate) fn token(&mut self, needed_for: Duration) -> Result<String, Error> {
        let token = self.identity.token(&mut self.control, needed_for)?;
        Ok(token.unwrap_or_default().to_owned())
    }

    pub(crate) fn pause(&self, pause: Duration) {
        self.control.pause(pause);
    }

    /// Makes a queue, stopped where `is_paused`.
    pub(crate) fn make_queue(&mut self, queue: &str, state: QueueState) -> Result<(), Error> {
        let make = Request::json(Method::Patch, format!("{QUEUES}/{queue}"), &json!({}));
        self.answer(200, "making a queue", &make)?;
        match state {
            QueueState::Paused => self.set_state(queue, QueueState::Paused),
            QueueState::Running => Ok(()),
        }
    }

    pub(crate) fn set_state(&mut self, queue: &str, state: QueueState) -> Result<(), Error> {
        let action = match state {
            QueueState::Paused => "pause",
            QueueState::Running => "resume",
        };
        let request = Request::post_json(format!("{QUEUES}/{queue}/{action}"), &json!({}));
        self.answer(200, "pausing or resuming a queue", &request).map(drop)
    }

    /// Jobs of the queue that have not ended; the platform counts up to 100,000.
    pub(crate) fn live_jobs(&mut self, queue: &str) -> Result<u64, Error> {
        let stats = self.answer(200, "asking how a queue stands", &Request::get(format!("{QUEUES}/{queue}")))?["stats"].take();
        let live = ["queued", "scheduled", "running", "retrying"];
        Ok(live.iter().filter_map(|state| stats[state].as_u64()).sum())
    }

    /// A job as it stands.
    pub(crate) fn job(&mut self, id: u128) -> Result<Value, Error> {
        self.answer(200, "asking for a job", &Request::get(format!("{JOBS}/{}", shown_id(id))))
    }

    pub(crate) fn has_ended(&mut self, id: u128) -> Result<bool, Error> {
        let job = self.job(id)?;
        Ok(job["state"].as_str().is_some_and(|state| ENDED.contains(&state)))
    }

    /// Submits one job and tells the answer.
    pub(crate) fn submit(&mut self, job: &Value, prefer: Option<&str>) -> Result<Value, Error> {
        let mut request = Request::post_json(JOBS, job);
        request.headers.extend(prefer.map(|prefer| ("Prefer".to_owned(), prefer.to_owned())));
        let token = self.token(TOKEN_LASTS)?;
        let answer = self.control.send(&request.with_bearer(&token))?;
        match answer.status {
            200 | 202 => Ok(answer.body),
            status => Err(Error::failed(format!("submitting a job: answered {status}"))),
        }
    }

    /// The jobs of a queue, newest first.
    pub(crate) fn jobs_page(&mut self, queue: &str, cursor: Option<&str>) -> Result<JobsPage, Error> {
        let cursor = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let request = Request::get(format!("{JOBS}?queue={queue}&limit={PAGE}{cursor}"));
        let body = self.ask(200, "listing jobs for the ledger", &request)?;
        serde_json::from_slice(&body).map_err(|error| Error::failed(format!("listing jobs for the ledger: {error}")))
    }

    /// Ends and removes every job of the queue, then the queue where the platform can.
    pub(crate) fn clear(&mut self, queue: &str) -> Result<(), Error> {
        self.set_state(queue, QueueState::Paused)?;
        let deadline = Instant::now() + PATIENCE;
        self.purge(queue, None)?;
        // Workers may hold some for a moment longer.
        while self.live_jobs(queue)? > 0 && Instant::now() < deadline {
            self.pause(RETRY_PAUSE);
            self.purge(queue, None)?;
        }
        for state in ENDED {
            self.purge(queue, Some(state))?;
        }
        // Releases that cannot remove a queue leave an empty one.
        let request = Request::json(Method::Delete, format!("{QUEUES}/{queue}"), &json!({}));
        let token = self.token(TOKEN_LASTS)?;
        self.control.send(&request.with_bearer(&token)).map(drop)
    }

    fn purge(&mut self, queue: &str, state: Option<&str>) -> Result<(), Error> {
        let body = state.map_or_else(|| json!({}), |state| json!({ "state": state }));
        let request = Request::post_json(format!("{QUEUES}/{queue}/purge"), &body);
        for _ in 0..PURGES_MAX {
            if self.answer(200, "emptying a queue", &request)?["removed"].as_u64().unwrap_or(0) == 0 {
                return Ok(());
            }
        }
        Err(Error::failed(format!("the queue {queue} is still not empty")))
    }

    fn answer(&mut self, expected: u16, purpose: &str, request: &Request) -> Result<Value, Error> {
        let body = self.ask(expected, purpose, request)?;
        Ok(serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// Asks until the answer is neither 5xx nor missing, up to [`PATIENCE`].
    fn ask(&mut self, expected: u16, purpose: &str, request: &Request) -> Result<Vec<u8>, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let token = self.token(TOKEN_LASTS);
            let outcome = token.and_then(|token| self.control.fetch(&request.clone().with_bearer(&token)));
            match outcome {
                Ok((status, body)) if status == expected => return Ok(body),
                Ok((status, _)) if status >= 500 && Instant::now() < deadline => {}
                Ok((status, body)) => return Err(refused(purpose, status, &body)),
                Err(_) if Instant::now() < deadline => {}
                Err(error) => return Err(error),
            }
            self.pause(RETRY_PAUSE);
        }
    }
}

/// Whether workers may lease from a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueState {
    Paused,
    Running,
}

fn refused(purpose: &str, status: u16, body: &[u8]) -> Error {
    let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let detail = body["detail"].as_str().map(|detail| format!(" ({detail})")).unwrap_or_default();
    let hint = match status {
        401 => ": check --email and --password, or --token",
        403 => ": the account must be an operator's",
        429 => ": raise the platform's rate limits for the measurement (RATE_LIMIT_…)",
        _ => "",
    };
    Error::failed(format!("{purpose}: the platform answered {status}{detail}{hint}"))
}

fn id<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
    let text = String::deserialize(deserializer)?;
    parsed_id(&text).ok_or_else(|| serde::de::Error::custom("not the id of a job"))
}
