//! The guarded statement that writes every conclusion, in two shapes: for any, and for successes alone.

use super::super::{
    Nonce,
    outcome::{Conclusion, Delivery, Next},
    token::Token,
};
use crate::ids::{BatchId, JobId};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// Where the guarded statement put a row: `pending`, or the state it ended in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::jobs::engine) struct Written {
    pub(in crate::jobs::engine) id: JobId,
    pub(in crate::jobs::engine) state: String,
    /// Whether some job may wait for it.
    pub(in crate::jobs::engine) awaited: bool,
    pub(in crate::jobs::engine) batch_id: Option<BatchId>,
}

/// Writes every conclusion whose attempt is above its row's, in one statement, and returns those written.
///
/// What is missing from the answer was refused, or has been written before: [`super::standings`] tells.
pub(in crate::jobs::engine) async fn conclude(pg: &mut PgConnection, conclusions: &[&Conclusion]) -> sqlx::Result<Vec<Written>> {
    if let Some(successes) = Successes::of(conclusions) {
        return succeed(pg, &successes).await;
    }
    let columns = Columns::of(conclusions);
    sqlx::query_file_as!(
        Written,
        "src/jobs/engine/store/conclude.sql",
        &columns.ids,
        &columns.attempts,
        &columns.nonces,
        &columns.states as _,
        &columns.run_ats as _,
        &columns.failures,
        &columns.snoozes,
        &columns.crashes,
        &columns.error_codes as _,
        &columns.error_messages as _,
        &columns.outcomes as _,
        &columns.results as _,
        &columns.workers as _,
        &columns.started_ats as _,
        &columns.finished_ats,
    )
    .fetch_all(pg)
    .await
}

/// The same for successes of one holder, which nearly every batch consists of: less is told, and less is looked at.
pub(in crate::jobs::engine) async fn succeed(pg: &mut PgConnection, told: &Successes<'_>) -> sqlx::Result<Vec<Written>> {
    let rows = sqlx::query_file!(
        "src/jobs/engine/store/succeed.sql",
        &told.ids,
        &told.attempts,
        &told.results as _,
        &told.started_ats as _,
        &told.finished_ats,
        told.nonce.0,
        told.worker,
    )
    .fetch_all(pg)
    .await?;
    let written =
        rows.into_iter().map(|row| Written { id: row.id, state: "succeeded".to_owned(), awaited: row.awaited, batch_id: row.batch_id });
    Ok(written.collect())
}

/// Successes by column.
#[derive(Debug, PartialEq)]
pub(in crate::jobs::engine) struct Successes<'a> {
    pub(in crate::jobs::engine) nonce: Nonce,
    pub(in crate::jobs::engine) worker: &'a str,
    pub(in crate::jobs::engine) ids: Vec<Uuid>,
    pub(in crate::jobs::engine) attempts: Vec<i32>,
    pub(in crate::jobs::engine) results: Vec<Option<&'a str>>,
    pub(in crate::jobs::engine) started_ats: Vec<Option<OffsetDateTime>>,
    pub(in crate::jobs::engine) finished_ats: Vec<OffsetDateTime>,
}

impl<'a> Successes<'a> {
    pub(in crate::jobs::engine) fn empty(nonce: Nonce, worker: &'a str) -> Self {
        let (ids, attempts, results, started_ats, finished_ats) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { nonce, worker, ids, attempts, results, started_ats, finished_ats }
    }

    /// `None` when there is anything else among them.
    pub(in crate::jobs::engine) fn of(conclusions: &[&'a Conclusion]) -> Option<Self> {
        let Delivery { token: Token { nonce, .. }, worker_id, .. } = &conclusions.first()?.delivery;
        let is_one = |c: &&Conclusion| {
            let is_plain = c.next == Next::Ended("succeeded") && c.error.is_none();
            is_plain && c.delivery.token.nonce == *nonce && c.delivery.worker_id == *worker_id
        };
        conclusions.iter().all(is_one).then(|| Self {
            nonce: *nonce,
            worker: worker_id,
            ids: conclusions.iter().map(|c| c.delivery.token.job_id.0).collect(),
            attempts: conclusions.iter().map(|c| c.delivery.token.attempt).collect(),
            results: conclusions.iter().map(|c| c.result.as_ref().map(|result| result.get())).collect(),
            started_ats: conclusions.iter().map(|c| c.delivery.started_at).collect(),
            finished_ats: conclusions.iter().map(|c| c.finished_at).collect(),
        })
    }
}

/// Conclusions by column, as the statement unnests them.
#[derive(Default)]
pub(super) struct Columns<'a> {
    pub(super) ids: Vec<Uuid>,
    pub(super) attempts: Vec<i32>,
    pub(super) nonces: Vec<Uuid>,
    pub(super) states: Vec<&'static str>,
    pub(super) run_ats: Vec<Option<OffsetDateTime>>,
    pub(super) failures: Vec<i32>,
    pub(super) snoozes: Vec<i32>,
    pub(super) crashes: Vec<i16>,
    pub(super) error_codes: Vec<Option<&'a str>>,
    pub(super) error_messages: Vec<Option<&'a str>>,
    pub(super) outcomes: Vec<Option<&'static str>>,
    pub(super) results: Vec<Option<&'a str>>,
    pub(super) workers: Vec<&'a str>,
    pub(super) started_ats: Vec<Option<OffsetDateTime>>,
    pub(super) finished_ats: Vec<OffsetDateTime>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(conclusions: &[&'a Conclusion]) -> Self {
        let mut columns = Self::default();
        for conclusion in conclusions {
            columns.push(conclusion);
        }
        columns
    }

    fn push(&mut self, conclusion: &'a Conclusion) {
        let (state, run_at) = match conclusion.next {
            Next::Ended(state) => (state, None),
            Next::Pending { run_at } => ("pending", Some(run_at)),
        };
        self.ids.push(conclusion.delivery.token.job_id.0);
        self.attempts.push(conclusion.delivery.token.attempt);
        self.nonces.push(conclusion.delivery.token.nonce.0);
        self.states.push(state);
        self.run_ats.push(run_at);
        self.failures.push(conclusion.standing.failures);
        self.snoozes.push(conclusion.standing.snoozes);
        self.crashes.push(conclusion.standing.crashes);
        self.error_codes.push(conclusion.error.as_ref().map(|error| error.code.as_str()));
        self.error_messages.push(conclusion.error.as_ref().map(|error| error.message.as_str()));
        self.outcomes.push(conclusion.attempt_outcome);
        self.results.push(conclusion.result.as_ref().map(|result| result.get()));
        self.workers.push(conclusion.delivery.worker_id.as_str());
        self.started_ats.push(conclusion.delivery.started_at);
        self.finished_ats.push(conclusion.finished_at);
    }
}
