//! What remote workers say became of their jobs: the two beats of settling, in one request, and the answer to a settle that is told
//! again.

use super::super::{
    IDS_MAX, Nonce, QueueKeys, Standing, apply,
    leases::LeaseText,
    load::Draft,
    outcome::{Conclusion, Delivery, Outcome, RETURNS_MAX, conclude},
    scripts::{self, Action, Finish, Holder, Leased, Step},
    settle::{Settled, Verdict, write_once},
    store::{self, RowStanding},
    token::Token,
};
use crate::{
    Context, Error, Result,
    ids::JobId,
    jobs::{JobState, QueueName},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use time::OffsetDateTime;

/// What a worker makes of a delivery.
#[derive(Debug)]
pub enum End {
    Outcome(Outcome),
    /// It did not run, or not to an end; somebody else may at once. Uses no attempt; so often only.
    Release,
}

/// What became of one settle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It stands as this settle, or an earlier one with this token, left it.
    Settled(JobState),
    /// The lease is somebody else's by now, or nobody's: nothing has changed.
    LeaseLost,
}

/// Settles deliveries of one queue, at most [`IDS_MAX`], each of another job; the answers are in order. An error means that some may
/// be settled and others not: told again, each is answered.
pub async fn settle(ctx: &Context, queue: &QueueName, holder: &Holder, ends: Vec<(Token, End)>) -> Result<Vec<Answer>> {
    debug_assert!(ends.len() <= IDS_MAX, "callers bound it");
    let keys = Arc::new(QueueKeys::new(&ctx.keys, queue));
    let tokens: Vec<Token> = ends.iter().map(|(token, _)| *token).collect();
    let (mut drafts, refused) = mark(ctx, &keys, holder, &tokens).await?;
    let now = ctx.clock.now();
    let (mut conclusions, mut finishes) = (Vec::new(), Vec::new());
    let mut answers: HashMap<JobId, Answer> = HashMap::new();
    let releases: HashSet<JobId> = ends.iter().filter(|(_, end)| matches!(end, End::Release)).map(|(token, _)| token.job_id).collect();
    for (token, end) in ends {
        let Some(left) = drafts.remove(&token.job_id) else { continue };
        match left.resolve(end) {
            Ok(outcome) => conclusions.push(conclude(left.delivery, outcome, now, rand::random())),
            Err(standing) => {
                finishes.push(Finish { token, action: Action::Release, standing });
                answers.insert(token.job_id, Answer::Settled(JobState::Queued));
            }
        }
    }
    let has_release = !finishes.is_empty();
    for Settled { verdict, finish } in write(ctx, conclusions).await? {
        let answer = match verdict {
            Verdict::Written | Verdict::WrittenBefore => Answer::Settled(state_after(&finish, now)),
            Verdict::Refused => Answer::LeaseLost,
        };
        answers.insert(finish.token.job_id, answer);
        finishes.push(finish);
    }
    match apply(ctx, &keys, finishes).await {
        Ok(()) => {}
        // Of a release Redis alone knows: unless it does, the lease expires, and that counts as a failure.
        Err(error) if has_release => return Err(error),
        // The rows are written: when the leases expire, Redis takes their word.
        Err(error) => tracing::debug!(%error, %queue, "settled leases stay in Redis until they expire"),
    }
    let copies = copies(ctx, &keys, refused.iter().filter(|token| releases.contains(&token.job_id))).await?;
    answers.extend(told_before(ctx, &refused, &copies, now).await?);
    Ok(tokens.iter().map(|token| answers.get(&token.job_id).copied().unwrap_or(Answer::LeaseLost)).collect())
}

/// The first beat: those whose lease holds are marked as settling, and what is needed to conclude them is read.
async fn mark(ctx: &Context, keys: &Arc<QueueKeys>, holder: &Holder, tokens: &[Token]) -> Result<(HashMap<JobId, Left>, Vec<Token>)> {
    let mut connection = ctx.redis.connection();
    let ids: Vec<String> = tokens.iter().map(|token| token.job_id.to_string()).collect();
    let step = Step { mark: tokens.to_vec(), ..Step::default() };
    let stepped = scripts::step(&mut connection, keys, holder, &step).await?;
    let mut pipe = redis::pipe();
    pipe.cmd("HMGET").arg(keys.tok()).arg(&ids).cmd("HMGET").arg(keys.att()).arg(&ids).cmd("HMGET").arg(keys.env()).arg(&ids);
    type Texts<T> = Vec<Option<T>>;
    let (leases, copies, envelopes): (Texts<String>, Texts<String>, Texts<Vec<u8>>) = pipe.query_async(&mut connection).await?;
    let refused_ids: HashSet<JobId> = stepped.refused.iter().copied().collect();
    let (mut held, mut refused) = (HashMap::new(), Vec::new());
    for (((token, lease), copy), envelope) in tokens.iter().zip(leases).zip(copies).zip(envelopes) {
        let left = || Left::read(keys, *token, &holder.worker_id, &lease?, &copy?, envelope?);
        match left().filter(|_| !refused_ids.contains(&token.job_id)) {
            Some(left) => drop(held.insert(token.job_id, left)),
            None => refused.push(*token),
        }
    }
    Ok((held, refused))
}

/// A delivery whose lease holds.
struct Left {
    delivery: Delivery,
    is_cancel_asked: bool,
}

impl Left {
    fn read(keys: &Arc<QueueKeys>, token: Token, worker_id: &str, lease: &str, copy: &str, envelope: Vec<u8>) -> Option<Self> {
        let text = LeaseText::parse(lease).ok()?;
        let standing: Standing = copy.get(1..)?.parse().ok()?;
        let started_at = text.since.filter(|_| text.started);
        let draft = Draft::new(Arc::clone(keys), &Leased { id: token.job_id, standing, envelope }, token.nonce)?;
        let (retry, record) = (draft.retry, draft.record);
        let delivery = Delivery { token, standing, retry, worker_id: worker_id.to_owned(), started_at, record };
        Some(Self { delivery, is_cancel_asked: lease.get(1..2) == Some("c") })
    }

    /// The outcome, or the standing that it is handed back with. Whatever a worker says of a job whose cancel was asked for, but that
    /// it is done, means that it has stopped.
    fn resolve(&self, end: End) -> Result<Outcome, Standing> {
        let standing = self.delivery.standing;
        match end {
            End::Outcome(Outcome::Done(result)) => Ok(Outcome::Done(result)),
            End::Outcome(_) | End::Release if self.is_cancel_asked => Ok(Outcome::Cancelled),
            End::Outcome(outcome) => Ok(outcome),
            End::Release if standing.returns >= RETURNS_MAX => Ok(Outcome::Undeliverable),
            // A settle may be on its way still, so that the attempt's number is not used again.
            End::Release => Err(Standing { returns: standing.returns + 1, ..standing }),
        }
    }
}

async fn write(ctx: &Context, conclusions: Vec<Conclusion>) -> Result<Vec<Settled>> {
    if conclusions.is_empty() { Ok(Vec::new()) } else { write_once(ctx, conclusions).await.map_err(Error::from) }
}

/// Where Redis has the jobs of releases whose lease is gone: nothing else tells that they were released before.
async fn copies(ctx: &Context, keys: &QueueKeys, tokens: impl Iterator<Item = &Token>) -> Result<HashMap<JobId, String>> {
    let ids: Vec<JobId> = tokens.map(|token| token.job_id).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let mut cmd = redis::cmd("HMGET");
    cmd.arg(keys.att()).arg(ids.iter().map(ToString::to_string).collect::<Vec<_>>());
    let copies: Vec<Option<String>> = cmd.query_async(&mut ctx.redis.connection()).await?;
    Ok(ids.into_iter().zip(copies).filter_map(|(id, copy)| Some((id, copy?))).collect())
}

/// Answers for tokens without a lease: from the row, if it was them who wrote it. A release writes no row: it was told before if the
/// job came back from that delivery and its row knows nothing of it.
async fn told_before(
    ctx: &Context,
    tokens: &[Token],
    copies: &HashMap<JobId, String>,
    now: OffsetDateTime,
) -> Result<HashMap<JobId, Answer>> {
    if tokens.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<JobId> = tokens.iter().map(|token| token.job_id).collect();
    let rows: HashMap<JobId, RowStanding> = store::standings(&ctx.pg, &ids).await?.into_iter().map(|row| (row.id, row)).collect();
    let answers = tokens.iter().map(|token| {
        let is_back = copies.get(&token.job_id).is_some_and(|copy| is_back(copy, token.attempt));
        let answer = match rows.get(&token.job_id) {
            Some(row) if row.nonce == Some(token.nonce) && row.standing.attempt == token.attempt => Answer::Settled(state_of(row, now)),
            Some(row) if is_back && row.state == "pending" && row.standing.attempt < token.attempt => Answer::Settled(JobState::Queued),
            Some(_) | None => Answer::LeaseLost,
        };
        (token.job_id, answer)
    });
    Ok(answers.collect())
}

/// Whether a copy, `<place><standing>`, has left this delivery behind it.
fn is_back(copy: &str, attempt: i32) -> bool {
    let counted = copy.get(1..).and_then(|standing| standing.parse::<Standing>().ok()).map_or(0, |standing| standing.attempt);
    counted > attempt || (counted == attempt && !copy.starts_with('l'))
}

fn state_of(row: &RowStanding, now: OffsetDateTime) -> JobState {
    match row.state.parse() {
        Ok(state) => state,
        Err(_) => pending_state(row.run_at, row.standing, now),
    }
}

fn state_after(finish: &Finish, now: OffsetDateTime) -> JobState {
    match &finish.action {
        Action::End { state } => state.parse().unwrap_or(JobState::Succeeded),
        Action::Requeue { run_at } => pending_state(*run_at, finish.standing, now),
        Action::Release | Action::Return => JobState::Queued,
    }
}

fn pending_state(run_at: OffsetDateTime, standing: Standing, now: OffsetDateTime) -> JobState {
    match (run_at <= now, standing.failures) {
        (true, _) => JobState::Queued,
        (false, 0) => JobState::Scheduled,
        (false, _) => JobState::Retrying,
    }
}

/// The holder of a session's leases.
pub fn holder(ctx: &Context, nonce: Nonce, worker_id: String) -> Holder {
    Holder { nonce, worker_id, lease: Duration::from_millis(ctx.settings().worker_lease_ms) }
}
