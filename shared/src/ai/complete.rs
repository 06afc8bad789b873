//! One attempt of `ai.complete`: asks within its time, tells the text as it comes, and says what becomes of the job.

use super::{
    Prompt,
    chat::{Failure, Question, Reply},
    telling::Teller,
};
use crate::{
    Context,
    jobs::{
        JobError,
        engine::{Outcome, held::LeasedJob},
    },
    outbound::{
        Guard, Outbound,
        breaker::{self, Permit},
    },
};
use serde_json::value::to_raw_value;
use std::time::Duration;

/// A service that has too much to do, and does not say until when.
const BUSY_FOR: Duration = Duration::from_secs(5);
/// Before the job's own limit ends the attempt, so that the breaker hears of it.
const MARGIN_MAX: Duration = Duration::from_millis(200);

/// Asks the operator's language model. Clones share what it costs to begin.
#[derive(Debug, Clone)]
pub struct Model(Outbound);

impl Default for Model {
    fn default() -> Self {
        Self(Outbound::new(Guard::anywhere()))
    }
}

impl Model {
    /// Completes `prompt`. Dropped, it closes the connection, by which services know to stop.
    pub async fn complete(&self, ctx: &Context, job: &LeasedJob, prompt: &Prompt) -> Outcome {
        match self.attempt(ctx, job, prompt).await {
            Ok(reply) => match to_raw_value(&reply) {
                Ok(result) => Outcome::Done(result),
                Err(error) => Outcome::retry("report", error.to_string()),
            },
            Err(failure) => failure.into(),
        }
    }

    async fn attempt(&self, ctx: &Context, job: &LeasedJob, prompt: &Prompt) -> Result<Reply, Failure> {
        let patience = patience(ctx, job);
        let question = Question::new(ctx, prompt)?;
        let name = question.breaker();
        let permit = breaker::ask(ctx, &name, patience + Duration::from_secs(1)).await;
        match permit.map_err(|error| Failure::Later { code: error.code.as_str(), why: error.to_string() })? {
            Permit::Yes | Permit::Probe => {}
            Permit::Wait(wait) => return Err(Failure::Resting(wait)),
        }
        let answered = tokio::time::timeout(patience, self.converse(ctx, job, question, patience)).await;
        let answered = answered.unwrap_or_else(|_| Err(Failure::timeout(patience)));
        let is_well = !matches!(answered, Err(Failure::Down { .. }));
        if let Err(error) = breaker::tell(ctx, &name, is_well).await {
            tracing::debug!(%error, "a breaker was not told");
        }
        answered
    }

    async fn converse(&self, ctx: &Context, job: &LeasedJob, question: Question, patience: Duration) -> Result<Reply, Failure> {
        let mut answer = question.ask(&self.0, patience, ctx.clock.now()).await?;
        let mut teller = Teller::new(ctx, job);
        loop {
            tokio::select! {
                bit = answer.next() => match bit? {
                    Some(bit) => teller.add(&bit),
                    None => break,
                },
                () = teller.due() => teller.tell().await,
            }
        }
        teller.tell().await;
        Ok(answer.into_reply())
    }
}

/// The job's own limit, or the setting's.
fn patience(ctx: &Context, job: &LeasedJob) -> Duration {
    match job.timeout {
        Some(limit) => limit - MARGIN_MAX.min(limit / 10),
        None => Duration::from_millis(ctx.settings().ai_timeout_ms),
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        // Not all at the same moment.
        let spread = |wait: Duration| wait.mul_f64(1.0 + rand::random::<f64>() / 4.0).max(Duration::from_millis(50));
        let error = |code: &str, message| JobError { code: code.to_owned(), message };
        match failure {
            Failure::Resting(wait) => Self::Postpone(spread(wait)),
            Failure::Busy { after } => Self::Snooze(spread(after.unwrap_or(BUSY_FOR))),
            Failure::Down { code, why, after } => Self::Retry { error: error(code, why), after },
            Failure::Later { code, why } => Self::Retry { error: error(code, why), after: None },
            Failure::Never { code, why } => Self::Discard(error(code, why)),
        }
    }
}
