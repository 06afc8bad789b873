//! The heartbeat: keeps leases alive, tells how far jobs are, and brings back what the worker must know.

use super::{LeaseToken, report, session};
use crate::{
    Caller, Context, Result,
    ids::{JobId, WorkerId},
    jobs::{
        Progress, QueueName,
        engine::{Token, remote},
        worker_orders::WorkerOrder,
        workers::{ActiveJob, WorkerState},
    },
    json_fields,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use utoipa::ToSchema;
use validator::Validate;

/// Leases of one heartbeat, at most.
const LEASES_MAX: u64 = 1_000;

/// What a worker says of itself.
#[derive(Debug, Clone, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"session_id": "01a1fb3f-0000-7000-8000-000000000002", "leases": []}))]
pub struct Heartbeat {
    pub session_id: WorkerId,
    /// All that the worker holds: what is left out runs out.
    #[validate(length(max = LEASES_MAX), nested)]
    #[schema(max_items = 1_000)]
    pub leases: Vec<HeldLease>,
    /// Its memory, for people.
    #[serde(default, deserialize_with = "json_fields::whole")]
    #[validate(range(min = 0, max = 9_007_199_254_740_991_i64))]
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub rss_kb: Option<i64>,
    /// What it is doing; `running` when absent.
    pub state: Option<RemoteState>,
}

#[derive(Debug, Clone, Serialize, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldLease {
    #[validate(length(max = 300))]
    #[schema(max_length = 300)]
    pub lease_token: String,
    #[serde(default, deserialize_with = "json_fields::object")]
    #[validate(nested)]
    pub progress: Option<ToldProgress>,
}

/// How far a job is; the last word counts, also when it says less than the one before.
#[derive(Debug, Clone, Serialize, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ToldProgress {
    #[validate(range(min = 0.0, max = 100.0))]
    #[schema(minimum = 0, maximum = 100)]
    pub percent: f64,
    /// Cut to 200 bytes.
    #[validate(length(max = 4_096))]
    #[schema(max_length = 4096)]
    pub message: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RemoteState {
    Running,
    Quiet,
    Draining,
}

/// What a worker must know.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Beat {
    /// Leases that go on.
    pub extended: Vec<String>,
    /// Leases that are gone: what the worker does with their jobs counts no more.
    pub lost: Vec<String>,
    /// Leases, among the extended, whose jobs should stop: settle them with `release` or `fail`.
    pub cancel: Vec<String>,
    pub command: Command,
}

/// What an operator wants of the worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    #[default]
    None,
    /// Lease nothing more.
    Quiet,
    /// Also end, once what runs has been settled.
    Terminate,
}

pub async fn heartbeat(ctx: &Context, caller: &Caller, request: &Heartbeat) -> Result<Beat> {
    let (session, order) = session::touch(ctx, caller, request.session_id).await?;
    let mut beat = Beat { command: command(order), ..Beat::default() };
    let mut by_queue: BTreeMap<QueueName, Vec<(Token, &HeldLease)>> = BTreeMap::new();
    for (at, held) in request.leases.iter().enumerate() {
        let lease = LeaseToken::parse(&held.lease_token, || format!("/leases/{at}/lease_token"))?;
        if lease.token.nonce == session.nonce() {
            by_queue.entry(lease.queue).or_default().push((lease.token, held));
        } else {
            beat.lost.push(held.lease_token.clone());
        }
    }
    let mut active: Vec<ActiveJob> = Vec::new();
    for (queue, held) in by_queue {
        let (held, outrun) = newest(held);
        beat.lost.extend(outrun);
        let tokens: Vec<Token> = held.iter().map(|(token, _)| *token).collect();
        let told: Vec<(Token, Progress)> = held.iter().filter_map(|(token, held)| Some((*token, kept(held.progress.as_ref()?)?))).collect();
        let beaten = remote::beat(ctx, &queue, &tokens, &told).await?;
        let among = |ids: &[JobId]| {
            held.iter().filter(|(token, _)| ids.contains(&token.job_id)).map(|(_, held)| held.lease_token.clone()).collect::<Vec<_>>()
        };
        beat.lost.extend(among(&beaten.lost));
        beat.cancel.extend(among(&beaten.cancels));
        let extended = held.iter().filter(|(token, _)| !beaten.lost.contains(&token.job_id));
        beat.extended.extend(extended.map(|(_, held)| held.lease_token.clone()));
        active.extend(beaten.active);
    }
    let state = state(request.state, order);
    let rss_kb = request.rss_kb.and_then(|rss_kb| u64::try_from(rss_kb).ok()).unwrap_or(0);
    report::report(ctx, &session.instance(state), active, rss_kb).await?;
    Ok(beat)
}

type Held<'a> = Vec<(Token, &'a HeldLease)>;

/// The newest lease of each job, and the tokens of the others: they are gone, and the answer is about jobs, not leases.
fn newest(held: Held<'_>) -> (Held<'_>, Vec<String>) {
    let mut attempts: HashMap<JobId, i32> = HashMap::new();
    for (token, _) in &held {
        let newest = attempts.entry(token.job_id).or_insert(token.attempt);
        *newest = token.attempt.max(*newest);
    }
    let (held, outrun): (Held<'_>, Held<'_>) = held.into_iter().partition(|(token, _)| token.attempt == attempts[&token.job_id]);
    (held, outrun.into_iter().map(|(_, held)| held.lease_token.clone()).collect())
}

fn kept(told: &ToldProgress) -> Option<Progress> {
    Progress::kept(told.percent, told.message.as_deref())
}

fn command(order: WorkerOrder) -> Command {
    match order {
        WorkerOrder::Resume => Command::None,
        WorkerOrder::Quiet => Command::Quiet,
        WorkerOrder::Stop => Command::Terminate,
    }
}

/// As it says; a worker that says nothing of it is taken to obey.
fn state(said: Option<RemoteState>, order: WorkerOrder) -> WorkerState {
    match (said, order) {
        (Some(RemoteState::Running), _) | (None, WorkerOrder::Resume) => WorkerState::Running,
        (Some(RemoteState::Quiet), _) | (None, WorkerOrder::Quiet) => WorkerState::Quiet,
        (Some(RemoteState::Draining), _) | (None, WorkerOrder::Stop) => WorkerState::Draining,
    }
}
