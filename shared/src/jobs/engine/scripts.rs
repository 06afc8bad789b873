//! The scripts of a queue as typed calls: one round trip each, at most [`IDS_MAX`] jobs in each list.
//!
//! What they take and return is written on top of each `.lua` file. A call that fails is told as it is; callers retry.

mod repair;
mod taking;

pub(super) use repair::{forget_places, mend, rebuilt, remove, restore, ring};
pub(super) use taking::take;
pub use taking::{Purpose, Taken};

use super::{
    copy::{Enqueue, Standing},
    token::{Nonce, Token},
};
use crate::{
    Context, Error, Result,
    clock::{from_unix_ms, unix_ms},
    ids::JobId,
    jobs::QueueName,
    keys::Keys,
    redis::Connection,
};
use redis::{Cmd, FromRedisValue, Script};
use std::{sync::LazyLock, time::Duration};
use time::OffsetDateTime;

/// Most ids in one list of one call: Lua's `unpack` and the reply's size are bounded by it.
pub const IDS_MAX: usize = 1_000;

/// Every so many leases take the oldest job, whatever its priority, so that none starves.
const FAIR_EVERY: usize = 16;

macro_rules! scripts {
    ($($name:ident = $file:literal $(after $before:literal)?;)*) => {$(
        static $name: LazyLock<Script> = LazyLock::new(|| Script::new(concat!($(include_str!($before),)? include_str!($file))));
    )*};
}

scripts! {
    ENQUEUE = "enqueue.lua";
    STEP = "step.lua" after "slots.lua";
    HEARTBEAT = "heartbeat.lua";
    SWEEP = "sweep.lua" after "slots.lua";
    CANCEL = "cancel.lua";
    REMOVE = "remove.lua";
    MEND = "mend.lua";
    RESTORE = "restore.lua";
}

/// The names of one queue in Redis, made once.
#[derive(Debug, Clone)]
pub struct QueueKeys {
    pub queue: QueueName,
    keys: [String; 23],
    doorbell: String,
    job_ends: String,
    job_events: String,
}

impl QueueKeys {
    pub fn new(keys: &Keys, queue: &QueueName) -> Self {
        Self {
            queue: queue.clone(),
            keys: keys.queue_scripts(queue.as_str()),
            doorbell: keys.doorbell(),
            job_ends: keys.job_ends(),
            job_events: keys.job_events(),
        }
    }

    pub(super) fn cfg(&self) -> &str {
        &self.keys[0]
    }

    pub(super) fn env(&self) -> &str {
        &self.keys[1]
    }

    pub(super) fn att(&self) -> &str {
        &self.keys[2]
    }

    pub(super) fn tok(&self) -> &str {
        &self.keys[3]
    }

    pub(super) fn leased(&self) -> &str {
        &self.keys[4]
    }

    pub(super) fn delayed(&self) -> &str {
        &self.keys[5]
    }

    pub(super) fn ready(&self) -> &[String] {
        &self.keys[7..17]
    }

    pub(super) fn quarantine(&self) -> &str {
        &self.keys[17]
    }

    pub(in crate::jobs) fn followed(&self) -> &str {
        &self.keys[18]
    }

    /// Where ready jobs wait for a slot of their concurrency key, and the keys that some wait for.
    pub(super) fn waiting_for_slots(&self) -> &[String] {
        &self.keys[21..23]
    }

    /// Where events of followed jobs are announced.
    pub(in crate::jobs) fn job_events(&self) -> &str {
        &self.job_events
    }

    pub(super) fn call(&self, script: &Script) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(script.get_hash()).arg(self.keys.len()).arg(&self.keys);
        cmd
    }
}

/// Runs `cmd`, and loads `script` first where the server does not know it (a new or restarted one).
pub(super) async fn run<T: FromRedisValue>(connection: &mut Connection, script: &Script, cmd: &Cmd) -> Result<T> {
    match cmd.query_async(connection).await {
        Err(error) if error.code() == Some("NOSCRIPT") => {
            let _: String = script.load_async(connection).await?;
            Ok(cmd.query_async(connection).await?)
        }
        answer => Ok(answer?),
    }
}

/// Copies rows that were just committed into their queue; the reconciler repairs what a failure here leaves out.
pub async fn enqueue(ctx: &Context, queue: &QueueName, jobs: &[Enqueue]) -> Result<()> {
    let keys = QueueKeys::new(&ctx.keys, queue);
    for jobs in jobs.chunks(IDS_MAX) {
        enqueue_as_of(&mut ctx.redis.connection(), &keys, jobs, None, Places::Kept).await?;
    }
    Ok(())
}

/// Whether Redis can be believed about where the copies that it has wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Places {
    Kept,
    /// After [`forget_places`]: every copy is placed again, but for those under a whole lease.
    Lost,
}

/// Copies rows that were read after Redis said it was `as_of_ms`; `None` when that is too long ago for them to be true still.
pub(super) async fn enqueue_as_of(
    connection: &mut Connection,
    keys: &QueueKeys,
    jobs: &[Enqueue],
    as_of_ms: Option<i64>,
    places: Places,
) -> Result<Option<u64>> {
    let mut cmd = keys.call(&ENQUEUE);
    cmd.arg(&keys.doorbell).arg(keys.queue.as_str()).arg(as_of_ms.unwrap_or(0));
    cmd.arg(match places {
        Places::Kept => "kept",
        Places::Lost => "lost",
    });
    for job in jobs {
        cmd.arg(job.id.to_string()).arg(job.standing.to_string()).arg(unix_ms(job.run_at)).arg(job.envelope());
        cmd.arg(job.concurrency_key.as_deref().unwrap_or_default());
    }
    let n_written: i64 = run(connection, &ENQUEUE, &cmd).await?;
    Ok(u64::try_from(n_written).ok())
}

/// What becomes of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The row is over, in this state; those who wait for the job hear it. `""` tells nobody.
    End { state: &'static str },
    /// The row is pending and runs at this time.
    Requeue { run_at: OffsetDateTime },
    /// Handed back unstarted, to be the next one leased.
    Release,
    /// Expired without a start: back, unless the holder has been heard of since.
    Return,
}

/// A lease that ends, and the job's standing afterwards.
#[derive(Debug, Clone)]
pub struct Finish {
    pub token: Token,
    pub action: Action,
    pub standing: Standing,
}

/// Which of a queue's lists a worker leases from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LeaseFrom {
    /// Those of the priorities.
    #[default]
    Ready,
    /// The suspects': for a child that runs nothing else beside them.
    Quarantine,
}

impl LeaseFrom {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Quarantine => "quarantine",
        }
    }
}

/// What one beat does on one queue. Every list holds at most [`IDS_MAX`].
#[derive(Debug, Default)]
pub struct Step {
    pub finish: Vec<Finish>,
    /// Outcomes about to be written to PostgreSQL.
    pub mark: Vec<Token>,
    pub started: Vec<Token>,
    /// How many jobs to lease.
    pub want: usize,
    pub from: LeaseFrom,
}

impl Step {
    pub fn is_idle(&self) -> bool {
        self.finish.is_empty() && self.mark.is_empty() && self.started.is_empty() && self.want == 0
    }
}

/// Who leases, and for how long.
#[derive(Debug, Clone)]
pub struct Holder {
    pub nonce: Nonce,
    /// Names the holder to people; without `:`.
    pub worker_id: String,
    pub lease: Duration,
}

/// A job as it was leased.
#[derive(Debug)]
pub struct Leased {
    pub id: JobId,
    pub standing: Standing,
    pub envelope: Vec<u8>,
}

/// What a beat brought.
#[derive(Debug, Default)]
pub struct Stepped {
    /// Marks whose token no longer holds the lease.
    pub refused: Vec<JobId>,
    /// Requeued jobs whose cancel was asked for: to be cancelled now.
    pub cancelled: Vec<JobId>,
    pub leased: Vec<Leased>,
    /// Whether the queue probably has more.
    pub more: bool,
    /// When the queue's rate lets the next job go, where that is what kept it from giving more.
    pub again_after: Option<Duration>,
    /// Whether this Redis knows the queue; until the reconciler has loaded it, nothing is leased.
    pub known: bool,
}

/// What `step.lua` returns, in its order.
type StepAnswer = (String, Vec<String>, Vec<String>, Vec<Vec<u8>>, i64, u64);

pub async fn step(connection: &mut Connection, keys: &QueueKeys, holder: &Holder, step: &Step) -> Result<Stepped> {
    let mut cmd = keys.call(&STEP);
    cmd.arg(holder.nonce.to_string()).arg(&holder.worker_id).arg(whole_ms(holder.lease)).arg(step.want).arg(FAIR_EVERY);
    cmd.arg(&keys.job_ends).arg(step.finish.len()).arg(step.mark.len()).arg(step.started.len());
    cmd.arg(step.from.as_str()).arg(&keys.job_events).arg(&keys.doorbell).arg(keys.queue.as_str());
    for finish in &step.finish {
        cmd.arg(finish.token.job_id.to_string()).arg(finish.token.text());
        match &finish.action {
            Action::End { state } => cmd.arg("end").arg(*state),
            Action::Requeue { run_at } => cmd.arg("requeue").arg(unix_ms(*run_at)),
            Action::Release => cmd.arg("release").arg(""),
            Action::Return => cmd.arg("return").arg(""),
        };
        cmd.arg(finish.standing.to_string());
    }
    for token in step.mark.iter().chain(&step.started) {
        cmd.arg(token.job_id.to_string()).arg(token.text());
    }
    let (status, refused, cancelled, leased, more, again_ms): StepAnswer = run(connection, &STEP, &cmd).await?;
    Ok(Stepped {
        refused: ids(&refused)?,
        cancelled: ids(&cancelled)?,
        leased: parse_leased(leased)?,
        more: more == 1,
        again_after: (again_ms > 0).then(|| Duration::from_millis(again_ms)),
        known: status != "unknown",
    })
}

fn parse_leased(flat: Vec<Vec<u8>>) -> Result<Vec<Leased>> {
    let mut leased = Vec::with_capacity(flat.len() / 3);
    let mut parts = flat.into_iter();
    while let (Some(id), Some(standing), Some(envelope)) = (parts.next(), parts.next(), parts.next()) {
        leased.push(Leased { id: id_of(&text(id)?)?, standing: text(standing)?.parse()?, envelope });
    }
    Ok(leased)
}

/// Extends leases; returns those that are lost and those whose cancel was asked for.
pub async fn heartbeat(
    connection: &mut Connection,
    keys: &QueueKeys,
    lease: Duration,
    tokens: &[Token],
) -> Result<(Vec<JobId>, Vec<JobId>)> {
    let leases: Vec<(Token, Option<Duration>)> = tokens.iter().map(|token| (*token, None)).collect();
    heartbeat_within(connection, keys, lease, &leases).await
}

/// The same of leases that may not last for ever: how long in all is beside the token. By the server's clock, as all that leases are.
pub async fn heartbeat_within(
    connection: &mut Connection,
    keys: &QueueKeys,
    lease: Duration,
    leases: &[(Token, Option<Duration>)],
) -> Result<(Vec<JobId>, Vec<JobId>)> {
    let mut cmd = keys.call(&HEARTBEAT);
    cmd.arg(whole_ms(lease));
    for (token, limit) in leases {
        cmd.arg(token.job_id.to_string()).arg(token.text()).arg(limit.map_or_else(String::new, |limit| whole_ms(limit).to_string()));
    }
    let (lost, cancels): (Vec<String>, Vec<String>) = run(connection, &HEARTBEAT, &cmd).await?;
    Ok((ids(&lost)?, ids(&cancels)?))
}

/// A lease that nobody extended in time.
#[derive(Debug, Clone)]
pub struct Expired {
    pub token: Token,
    /// Whether the attempt is known to have started.
    pub started: bool,
    pub worker_id: String,
    pub since: Option<OffsetDateTime>,
    pub standing: Standing,
    pub expired_at: Option<OffsetDateTime>,
}

#[derive(Debug)]
pub struct Swept {
    /// Whether this Redis is the one that the queue was loaded into.
    pub known: bool,
    /// Whether what it holds is not complete yet.
    pub rebuilding: bool,
    /// Nothing is leased or delayed.
    pub at_rest: bool,
    pub n_promoted: usize,
    pub expired: Vec<Expired>,
}

pub async fn sweep(connection: &mut Connection, keys: &QueueKeys, limit: usize) -> Result<Swept> {
    let mut cmd = keys.call(&SWEEP);
    cmd.arg(limit.min(IDS_MAX)).arg(&keys.doorbell).arg(keys.queue.as_str());
    let (known, n_promoted, flat, rebuilding, at_rest): (i64, usize, Vec<String>, i64, i64) = run(connection, &SWEEP, &cmd).await?;
    let expired = flat.chunks_exact(4).map(|parts| {
        let lease = super::leases::LeaseText::parse(&parts[1])?;
        Ok(Expired {
            token: Token { job_id: id_of(&parts[0])?, attempt: lease.attempt, nonce: lease.nonce },
            started: lease.started,
            worker_id: lease.worker_id.to_owned(),
            since: lease.since,
            standing: parts[2].parse()?,
            expired_at: parts[3].parse().ok().and_then(from_unix_ms),
        })
    });
    let expired = expired.collect::<Result<_>>()?;
    Ok(Swept { known: known == 1, rebuilding: rebuilding == 1, at_rest: at_rest == 1, n_promoted, expired })
}

pub(super) fn id_of(text: &str) -> Result<JobId> {
    text.parse().map_err(|_| Error::internal(format!("Redis holds `{text}` where a job's id should be")))
}

fn ids(texts: &[String]) -> Result<Vec<JobId>> {
    texts.iter().map(|text| id_of(text)).collect()
}

fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(Error::internal)
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
