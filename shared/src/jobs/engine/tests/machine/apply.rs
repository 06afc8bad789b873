//! The same calls on the real scripts, and their answers in the model's words.

use super::{
    N_JOBS, N_WORKERS,
    calls::{Age, Call, Copied, Ending, Job, Torn, When},
    layout::Place,
    model::{Given, Holder as Who, PRIORITIES, standing_after, token},
};
use crate::redis::Connection;
use crate::{
    Context,
    ids::{JobId, UserId},
    jobs::{
        JobKind, QueueName,
        engine::{
            Enqueue, Limits, Nonce, Paused, QueueKeys, Standing, Token,
            leases::LeaseText,
            scripts::{self, Action, Finish, Holder, LeaseFrom, Places, Purpose, Step, Taken, enqueue_as_of},
            set_paused,
        },
    },
};
use std::time::Duration;
use time::OffsetDateTime;
use uuid::Uuid;

const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    None,
    /// Nothing when the call was refused as a whole.
    Count(Option<u64>),
    Stepped {
        refused: Vec<Job>,
        cancelled: Vec<Job>,
        leased: Vec<(Job, Standing)>,
        more: bool,
        known: bool,
    },
    Heard {
        lost: Vec<Job>,
        cancels: Vec<Job>,
    },
    Swept {
        known: bool,
        n_promoted: usize,
        expired: Vec<(Job, Standing, bool)>,
    },
    Taken(&'static str),
}

pub(super) struct Real {
    ctx: Context,
    queue: QueueName,
    pub(super) keys: QueueKeys,
    pub(super) connection: Connection,
    ids: [JobId; N_JOBS],
    workers: [Nonce; N_WORKERS],
    /// Of those who took a copy from outside, in order.
    outsiders: Vec<Nonce>,
    nobody: Nonce,
}

impl Real {
    pub(super) fn new(ctx: &Context, queue: &QueueName) -> Self {
        let (connection, keys) = (ctx.redis.connection(), QueueKeys::new(&ctx.keys, queue));
        // In the order of their places, as ids are in the order of their making.
        let ids = std::array::from_fn(|job| JobId(Uuid::from_u128(job as u128 + 1)));
        let workers = std::array::from_fn(|_| Nonce::new());
        Self { ctx: ctx.clone(), queue: queue.clone(), keys, connection, ids, workers, outsiders: Vec::new(), nobody: Nonce::new() }
    }

    pub(super) fn job_of(&self, id: &str) -> Job {
        self.ids.iter().position(|known| known.to_string() == id).expect("only these are in the queue")
    }

    /// A lease's text in the model's words.
    pub(super) fn lease(&self, text: &str, is_over: bool) -> Place {
        let lease = LeaseText::parse(text).unwrap();
        let (worker, outsider) =
            (self.workers.iter().position(|n| *n == lease.nonce), self.outsiders.iter().position(|n| *n == lease.nonce));
        let holder = worker.map(Who::Worker).or(outsider.map(Who::Outsider)).unwrap_or(Who::Nobody);
        Place::Leased { holder, flag: text.chars().next().unwrap(), is_cancelled: text.chars().nth(1) == Some('c'), is_over }
    }

    pub(super) async fn apply(&mut self, call: &Call, tokens: &[Vec<Given>; N_JOBS]) -> Answer {
        let mut connection = self.connection.clone();
        match call {
            Call::Enqueue { copies, is_stale } => {
                let copies: Vec<Enqueue> = copies.iter().map(|copied| self.copy(copied)).collect();
                // Long ago, or just committed.
                let as_of = is_stale.then_some(1);
                Answer::Count(enqueue_as_of(&mut connection, &self.keys, &copies, as_of, Places::Kept).await.unwrap())
            }
            Call::Step { worker, finish, mark, started, want, is_quarantine } => {
                let all = |jobs: &[(Job, Age)]| jobs.iter().map(|(job, age)| self.token(tokens, *job, *age)).collect();
                let from = if *is_quarantine { LeaseFrom::Quarantine } else { LeaseFrom::Ready };
                let finish = finish.iter().map(|(job, age, ending)| self.finish(self.token(tokens, *job, *age), *job, *ending)).collect();
                let step = Step { finish, mark: all(mark), started: all(started), want: *want, from };
                self.step(*worker, step).await
            }
            Call::Heartbeat(jobs) => {
                let held: Vec<Token> = jobs.iter().map(|(job, age)| self.token(tokens, *job, *age)).collect();
                let (lost, cancels) = scripts::heartbeat(&mut connection, &self.keys, HOUR, &held).await.unwrap();
                Answer::Heard { lost: self.jobs(&lost), cancels: self.jobs(&cancels) }
            }
            Call::Sweep { limit } => {
                let swept = scripts::sweep(&mut connection, &self.keys, *limit).await.unwrap();
                let expired = swept.expired.iter().map(|lease| (self.job(lease.token.job_id), lease.standing, lease.started)).collect();
                Answer::Swept { known: swept.known, n_promoted: swept.n_promoted, expired }
            }
            Call::Take { job, is_cancel } => self.take(*job, if *is_cancel { Purpose::Cancel } else { Purpose::Delete }).await,
            Call::Remove(jobs) => {
                let mut seen = Vec::new();
                for (job, is_as_seen) in jobs {
                    let copy: Option<String> =
                        redis::cmd("HGET").arg(self.keys.att()).arg(self.ids[*job].to_string()).query_async(&mut connection).await.unwrap();
                    seen.push((self.ids[*job], copy.filter(|_| *is_as_seen).unwrap_or_else(|| "r4:99:0:0:0:0".to_owned())));
                }
                let n_removed = if seen.is_empty() { 0 } else { scripts::remove(&mut connection, &self.keys, &seen).await.unwrap() };
                Answer::Count(Some(n_removed))
            }
            Call::Rebuild { rows, torn } => {
                self.rebuild(rows, torn, &mut connection).await;
                Answer::Count(None)
            }
            Call::Restore { .. } | Call::Pause { .. } | Call::Flush | Call::Restart | Call::Pass { .. } => {
                self.happen(call, &mut connection).await;
                Answer::None
            }
        }
    }

    /// What is not one of the jobs' own calls.
    async fn happen(&self, call: &Call, connection: &mut Connection) {
        match call {
            Call::Restore { is_paused } => {
                scripts::restore(connection, &self.keys, *is_paused, &Limits::default(), Duration::ZERO).await.unwrap()
            }
            Call::Pause { is_paused } => {
                set_paused(&self.ctx, &self.queue, if *is_paused { Paused::Yes } else { Paused::No }).await.unwrap();
            }
            Call::Flush => {
                let keys = self.ctx.keys.queue_scripts(self.queue.as_str());
                redis::cmd("DEL").arg(&keys[..]).exec_async(connection).await.unwrap();
            }
            Call::Restart => {
                redis::cmd("HSET").arg(self.keys.cfg()).arg("run_id").arg("0".repeat(40)).exec_async(connection).await.unwrap();
            }
            Call::Pass { job } => {
                for set in [self.keys.leased(), self.keys.delayed()] {
                    redis::cmd("ZADD").arg(set).arg("XX").arg(1).arg(self.ids[*job].to_string()).exec_async(connection).await.unwrap();
                }
            }
            Call::Enqueue { .. }
            | Call::Step { .. }
            | Call::Heartbeat(_)
            | Call::Sweep { .. }
            | Call::Take { .. }
            | Call::Remove(_)
            | Call::Rebuild { .. } => {}
        }
    }

    async fn rebuild(&self, rows: &[Copied], torn: &[(Job, Torn)], connection: &mut Connection) {
        for (job, part) in torn {
            let id = self.ids[*job].to_string();
            match part {
                Torn::Token => redis::cmd("HDEL").arg(self.keys.tok()).arg(id).exec_async(connection).await.unwrap(),
                Torn::Copy => {
                    redis::cmd("HDEL").arg(self.keys.att()).arg(&id).exec_async(connection).await.unwrap();
                    redis::cmd("HDEL").arg(self.keys.env()).arg(id).exec_async(connection).await.unwrap();
                }
                Torn::Expiry => redis::cmd("ZREM").arg(self.keys.leased()).arg(id).exec_async(connection).await.unwrap(),
            }
        }
        scripts::forget_places(connection, &self.keys).await.unwrap();
        let rows: Vec<Enqueue> = rows.iter().map(|row| self.copy(row)).collect();
        enqueue_as_of(connection, &self.keys, &rows, None, Places::Lost).await.unwrap();
        scripts::mend(connection, &self.keys, &self.ids).await.unwrap();
    }

    async fn step(&self, worker: usize, step: Step) -> Answer {
        let holder = Holder { nonce: self.workers[worker], worker_id: "w".to_owned(), lease: HOUR };
        let stepped = scripts::step(&mut self.connection.clone(), &self.keys, &holder, &step).await.unwrap();
        Answer::Stepped {
            refused: self.jobs(&stepped.refused),
            cancelled: self.jobs(&stepped.cancelled),
            leased: stepped.leased.iter().map(|leased| (self.job(leased.id), leased.standing)).collect(),
            more: stepped.more,
            known: stepped.known,
        }
    }

    async fn take(&mut self, job: Job, purpose: Purpose) -> Answer {
        let holder = Holder { nonce: Nonce::new(), worker_id: "api".to_owned(), lease: HOUR };
        let taken = scripts::take(&mut self.connection.clone(), &self.keys, &holder, self.ids[job], purpose).await.unwrap();
        Answer::Taken(match taken {
            Taken::Taken(..) => {
                self.outsiders.push(holder.nonce);
                "taken"
            }
            Taken::Running => "running",
            Taken::Settling => "settling",
            Taken::Absent => "absent",
        })
    }

    fn token(&self, tokens: &[Vec<Given>; N_JOBS], job: Job, age: Age) -> Token {
        let (attempt, who) = token(tokens, job, age);
        let nonce = match who {
            Who::Worker(worker) => self.workers[worker],
            Who::Outsider(outsider) => self.outsiders[outsider],
            Who::Nobody => self.nobody,
        };
        Token { job_id: self.ids[job], attempt, nonce }
    }

    fn finish(&self, token: Token, job: Job, ending: Ending) -> Finish {
        let now = OffsetDateTime::now_utc();
        let action = match ending {
            Ending::End => Action::End { state: "succeeded" },
            Ending::Requeue(When::Due) | Ending::Suspect => Action::Requeue { run_at: now - HOUR },
            Ending::Requeue(When::Later) => Action::Requeue { run_at: now + HOUR },
            Ending::Release => Action::Release,
            Ending::Return => Action::Return,
        };
        Finish { token, action, standing: standing_after(token.attempt, job, ending) }
    }

    fn copy(&self, copied: &Copied) -> Enqueue {
        let now = OffsetDateTime::now_utc();
        let (attempt, crashes) = (copied.attempt, copied.crashes);
        Enqueue {
            id: self.ids[copied.job],
            owner_id: UserId::new(),
            kind: JobKind::new("debug.echo").unwrap(),
            standing: Standing { priority: PRIORITIES[copied.job], attempt, failures: 0, snoozes: 0, returns: 0, crashes },
            run_at: if copied.when == When::Due { now - HOUR } else { now + HOUR },
            expires_at: None,
            timeout_ms: None,
            retry: super::RETRY,
            payload: None,
            request_id: None,
            traceparent: None,
            verify: false,
            volatile: None,
            concurrency_key: None,
        }
    }

    fn job(&self, id: JobId) -> Job {
        self.ids.iter().position(|known| *known == id).expect("only these are in the queue")
    }

    fn jobs(&self, ids: &[JobId]) -> Vec<Job> {
        ids.iter().map(|id| self.job(*id)).collect()
    }
}
