//! The attempts of a job that did not succeed.

use super::{JobError, read, store};
use crate::{
    Caller, Context, Error, Result, Scope,
    ids::JobId,
    page::{Page, PageRequest},
};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

macro_rules! attempt_outcomes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// How an attempt ended that did not succeed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
        #[serde(rename_all = "lowercase")]
        pub enum AttemptOutcome { $($(#[$doc])* $variant,)* }

        impl AttemptOutcome {
            pub const fn as_str(self) -> &'static str {
                match self { $(AttemptOutcome::$variant => $text,)* }
            }
        }

        impl std::str::FromStr for AttemptOutcome {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                match text {
                    $($text => Ok(AttemptOutcome::$variant),)*
                    _ => Err(Error::internal(format!("`{text}` is not the outcome of an attempt"))),
                }
            }
        }
    };
}

attempt_outcomes! {
    /// The handler said so.
    Failed = "failed",
    Timeout = "timeout",
    Panic = "panic",
    /// Its process died of it.
    Crashed = "crashed",
    /// Its lease expired.
    Lost = "lost",
    Cancelled = "cancelled",
}

/// One delivery that did not end in success.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Attempt {
    #[schema(example = 1)]
    pub attempt: i32,
    #[schema(required)]
    pub worker_id: Option<String>,
    pub outcome: AttemptOutcome,
    #[schema(required)]
    pub error: Option<JobError>,
    #[schema(required)]
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    pub finished_at: OffsetDateTime,
}

/// The attempts of job `id`, the last first.
pub async fn list(ctx: &Context, caller: &Caller, id: JobId, request: &PageRequest<i32>) -> Result<Page<Attempt>> {
    caller.require(Scope::JobsRead)?;
    read::row_for(ctx, caller, id).await?;
    let rows = store::read::attempts_page(&ctx.pg, id, request.before, request.fetch()).await?;
    let attempts = rows.into_iter().map(Attempt::try_from).collect::<Result<Vec<_>>>()?;
    Ok(Page::from_rows(attempts, request, |attempt| attempt.attempt))
}

impl TryFrom<store::read::AttemptRow> for Attempt {
    type Error = Error;

    fn try_from(row: store::read::AttemptRow) -> Result<Self> {
        Ok(Self {
            attempt: row.attempt,
            worker_id: row.worker_id,
            outcome: row.outcome.parse()?,
            error: row.error_code.map(|code| JobError { code, message: row.error_message.unwrap_or_default() }),
            started_at: row.started_at,
            finished_at: row.finished_at,
        })
    }
}
