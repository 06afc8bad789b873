//! What becomes of the deliveries of a process that ended without settling them. Its supervisor knows how it ended and what ran
//! in it, so that nothing has to wait for a lease to expire, and nobody pays for what a neighbour did.

use super::{
    IDS_MAX, Standing,
    leases::LeaseText,
    outcome::{Company, Conclusion, Delivery, Outcome, RETURNS_MAX, conclude},
    reconcile,
    scripts::{self, Action, Finish, Places, QueueKeys, id_of},
    settle::{Settled, resync, write},
    store::RowStanding,
    token::{Nonce, Token},
    volatile::{Record, Stands},
};
use crate::redis::Connection;
use crate::{Context, Error, Result, ids::JobId, jobs::QueueName};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use time::OffsetDateTime;

/// An attempt that ran in the process when it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    pub queue: QueueName,
    pub job_id: JobId,
    pub attempt: i32,
    pub started_at: OffsetDateTime,
    /// How long it may run; `None` is without end.
    pub limit: Option<Duration>,
}

/// What the end of its process was for an attempt that ran in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Perhaps it was the one that ended it.
    Crashed { how: String, company: Company },
    /// The process was ended because this one ran past its limit and would not yield.
    TimedOut { limit: Duration },
    /// The process was ended for reasons that were not this one's: it runs again, and nothing is held against it.
    Interrupted,
}

/// A process that ended, and what it left.
#[derive(Debug)]
pub struct Wreck {
    /// Of the leases it held.
    pub nonce: Nonce,
    /// Of the conclusions that are written for it: the same through every try, so that one that was written is known again.
    pub salvor: Nonce,
    pub worker_id: String,
    pub running: Vec<(Running, Fate)>,
}

/// A lease that the process held.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) token: Token,
    pub(super) started: bool,
    /// When it was leased.
    pub(super) since: Option<OffsetDateTime>,
    pub(super) standing: Standing,
}

/// What Redis says of the wreck's deliveries on one queue.
#[derive(Debug, Default)]
pub(super) struct Scene {
    pub(super) leases: Vec<Left>,
    /// Running ones that another process has leased meanwhile: its business now.
    taken: HashSet<JobId>,
}

/// Ends everything that the wreck left on `queues` and on those of its running attempts; returns how many deliveries that were.
/// To be called until it returns 0: the last words of a process may reach Redis after its death.
///
/// An error means that a server is away; rows are written even while Redis is. Calling again is harmless.
pub async fn salvage(ctx: &Context, wreck: &Wreck, queues: &[QueueName]) -> Result<usize> {
    let mut seen = HashSet::new();
    let running = wreck.running.iter().map(|(running, _)| &running.queue);
    let mut n_ended = 0;
    let mut result = Ok(());
    for queue in running.chain(queues).filter(|queue| seen.insert(*queue)) {
        match salvage_queue(ctx, wreck, queue).await {
            Ok(n) => n_ended += n,
            Err(error) => result = Err(error),
        }
    }
    result.map(|()| n_ended)
}

async fn salvage_queue(ctx: &Context, wreck: &Wreck, queue: &QueueName) -> Result<usize> {
    let keys = QueueKeys::new(&ctx.keys, queue);
    let running: Vec<&(Running, Fate)> = wreck.running.iter().filter(|(running, _)| running.queue == *queue).collect();
    let mut connection = ctx.redis.connection();
    let ids: Vec<JobId> = running.iter().map(|(running, _)| running.job_id).collect();
    let scene = survey(&mut connection, &keys, wreck.nonce, &ids).await;
    let known = scene.as_ref().ok();
    let leases: &[Left] = known.map_or(&[], |scene| &scene.leases);
    let ids: Vec<JobId> = ids.into_iter().chain(leases.iter().map(|left| left.token.job_id)).collect();
    if ids.is_empty() {
        return scene.map(|_| 0);
    }
    let leased: Vec<_> = leases.iter().map(|left| (left.token.job_id, left.standing)).collect();
    let Stands { rows, records } = Stands::read(ctx, &keys, &ids, &leased).await?;
    let mut ends = Ends { records, ..Ends::default() };
    for (running, fate) in running {
        if known.is_none_or(|scene| !scene.taken.contains(&running.job_id)) {
            let left = leases.iter().find(|left| left.token.job_id == running.job_id);
            ends.end_running(ctx, wreck, running, fate, left, rows.get(&running.job_id));
        }
    }
    for left in leases {
        ends.hand_back(ctx, wreck, left, rows.get(&left.token.job_id));
    }
    let written = write(ctx, &ends.conclusions).await.map_err(Error::from)?;
    // Ours to write, but the lease in Redis is the wreck's: it ends under the wreck's token.
    let under_lease = |token: Token| Token { nonce: wreck.nonce, ..token };
    ends.finishes.extend(written.into_iter().map(|Settled { finish, .. }| Finish { token: under_lease(finish.token), ..finish }));
    let n_leases = leases.len();
    scene?;
    let n_ended = ends.finishes.len();
    if n_ended > 0 {
        super::apply(ctx, &keys, ends.finishes).await?;
        // Those that Redis holds in another way (it was emptied meanwhile) take the row's word.
        reconcile::copy(ctx, &keys, &ends.unleased, Places::Kept).await?;
        scripts::ring(&mut connection, &keys).await?;
    }
    Ok(n_leases)
}

/// Finds the leases with `nonce` on one queue, and which of `ids` others have leased.
pub(super) async fn survey(connection: &mut Connection, keys: &QueueKeys, nonce: Nonce, ids: &[JobId]) -> Result<Scene> {
    let mut scene = Scene::default();
    let mut cursor = 0_u64;
    loop {
        let mut cmd = redis::cmd("HSCAN");
        cmd.arg(keys.tok()).arg(cursor).arg("COUNT").arg(IDS_MAX);
        let (next, flat): (u64, Vec<String>) = cmd.query_async(connection).await?;
        let mut held = Vec::new();
        for pair in flat.chunks_exact(2) {
            let (id, lease) = (id_of(&pair[0])?, LeaseText::parse(&pair[1])?);
            if lease.nonce == nonce {
                held.push((Token { job_id: id, attempt: lease.attempt, nonce }, lease.started, lease.since));
            } else if ids.contains(&id) {
                scene.taken.insert(id);
            }
        }
        scene.leases.extend(with_standings(connection, keys, held).await?);
        cursor = next;
        if cursor == 0 {
            return Ok(scene);
        }
    }
}

async fn with_standings(
    connection: &mut Connection,
    keys: &QueueKeys,
    held: Vec<(Token, bool, Option<OffsetDateTime>)>,
) -> Result<Vec<Left>> {
    if held.is_empty() {
        return Ok(Vec::new());
    }
    let mut cmd = redis::cmd("HMGET");
    cmd.arg(keys.att()).arg(held.iter().map(|(token, ..)| token.job_id.to_string()).collect::<Vec<_>>());
    let copies: Vec<Option<String>> = cmd.query_async(connection).await?;
    let standing = |copy: Option<String>| copy.and_then(|copy| copy.get(1..)?.parse::<Standing>().ok());
    let left = held.into_iter().zip(copies).filter_map(|((token, started, since), copy)| {
        let standing = standing(copy)?;
        Some(Left { token, started, since, standing })
    });
    Ok(left.collect())
}

/// What is to be written and told of one queue's deliveries.
#[derive(Debug, Default)]
struct Ends {
    finishes: Vec<Finish>,
    conclusions: Vec<Conclusion>,
    /// Concluded without a lease to end.
    unleased: Vec<JobId>,
    dealt_with: HashSet<JobId>,
    /// Of jobs that have no row until they end.
    records: HashMap<JobId, Arc<Record>>,
}

impl Ends {
    fn end_running(
        &mut self,
        ctx: &Context,
        wreck: &Wreck,
        running: &Running,
        fate: &Fate,
        left: Option<&Left>,
        row: Option<&RowStanding>,
    ) {
        let outcome = match fate {
            Fate::Crashed { how, company } => Outcome::Crashed { how: how.clone(), company: *company },
            Fate::TimedOut { limit } => Outcome::Timeout { limit: *limit },
            // As any lease that is handed back.
            Fate::Interrupted => return,
        };
        let is_open = |row: &&RowStanding| row.state == "pending" && row.standing.attempt < running.attempt;
        let Some(row) = row.filter(is_open) else { return };
        let delivery = Delivery {
            token: Token { job_id: running.job_id, attempt: running.attempt, nonce: wreck.salvor },
            standing: Standing { attempt: running.attempt, returns: left.map_or(0, |left| left.standing.returns), ..row.standing },
            retry: row.retry,
            worker_id: wreck.worker_id.clone(),
            started_at: Some(running.started_at),
            record: self.records.get(&running.job_id).cloned(),
        };
        if left.is_none() {
            self.unleased.push(running.job_id);
        }
        self.dealt_with.insert(running.job_id);
        self.conclusions.push(conclude(delivery, outcome, ctx.clock.now(), rand::random()));
    }

    /// Nothing of this delivery ran when the process ended: it goes back to the front of its list, unless the row knows better.
    fn hand_back(&mut self, ctx: &Context, wreck: &Wreck, left: &Left, row: Option<&RowStanding>) {
        if !self.dealt_with.insert(left.token.job_id) {
            return;
        }
        let is_open = |row: &&RowStanding| row.state == "pending" && row.standing.attempt < left.token.attempt;
        let Some(row) = row.filter(is_open) else {
            return self.finishes.push(resync(left.token, left.standing, row));
        };
        // Who is on record pays for it. Where nobody is, reading a delivery may have been what ended the process.
        let is_suspect = wreck.running.is_empty();
        if is_suspect && left.standing.returns >= RETURNS_MAX {
            let delivery = Delivery {
                token: Token { nonce: wreck.salvor, ..left.token },
                standing: Standing { returns: left.standing.returns, attempt: left.token.attempt, ..row.standing },
                retry: row.retry,
                worker_id: wreck.worker_id.clone(),
                started_at: None,
                record: self.records.get(&left.token.job_id).cloned(),
            };
            return self.conclusions.push(conclude(delivery, Outcome::Undeliverable, ctx.clock.now(), 1.0));
        }
        // A started one's outcome may be on its way into PostgreSQL still: its number is not used again.
        let attempt = if left.started { left.token.attempt } else { left.token.attempt - 1 };
        let standing = Standing { attempt, returns: left.standing.returns + i32::from(is_suspect), ..left.standing };
        self.finishes.push(Finish { token: left.token, action: Action::Release, standing });
    }
}

/// How many suspects wait on `queues` to run alone; leftovers of jobs that are gone are counted too.
pub async fn suspects(ctx: &Context, queues: &[QueueName]) -> Result<u64> {
    let mut n_suspects = 0;
    for queues in queues.chunks(IDS_MAX) {
        let mut pipe = redis::pipe();
        for queue in queues {
            pipe.llen(QueueKeys::new(&ctx.keys, queue).quarantine());
        }
        let lengths: Vec<u64> = pipe.query_async(&mut ctx.redis.connection()).await?;
        n_suspects += lengths.iter().sum::<u64>();
    }
    Ok(n_suspects)
}
