//! Submit many jobs at once, with a verdict for each in order.

use super::{
    NewJob, SubmitJob,
    new_job::Origin,
    queues, race, submit,
    write::{self, Target},
};
use crate::{Caller, Code, Context, Error, FieldError, Result, Scope};
use sqlx::PgConnection;
use std::collections::HashMap;

/// Most jobs in one chunk of a bulk submit.
pub const CHUNK_MAX: usize = 1_000;

/// A checked chunk: what may be written, and where refused items stood.
#[derive(Debug)]
pub struct Prepared {
    verdicts: Vec<Result<NewJob>>,
}

/// Checks up to [`CHUNK_MAX`] items; `items` holds what could not even be parsed as its error.
pub async fn prepare(ctx: &Context, caller: &Caller, items: Vec<Result<SubmitJob>>, origin: &Origin) -> Result<Prepared> {
    caller.require(Scope::JobsWrite)?;
    let mut verdicts = Vec::with_capacity(items.len());
    for item in items {
        verdicts.push(match item {
            Ok(submit) => item_verdict(submit::prepare_unbounded(ctx, caller, submit, origin.clone()).await)?,
            Err(error) => Err(error),
        });
    }
    refuse_beyond_depth(ctx, &mut verdicts).await?;
    Ok(Prepared { verdicts })
}

impl Prepared {
    /// The refusal of the whole when any item is refused: its fields point at `/jobs/<index>/…`.
    pub fn all_or_nothing(&self, first_index: usize) -> Result<()> {
        all_written(&self.verdicts, first_index)
    }

    /// Writes the good ones, in the caller's transaction if there is one, and answers for each item in order.
    ///
    /// After the commit call [`announce`] with the jobs that this returns.
    pub async fn write(self, ctx: &Context, transaction: Option<&mut PgConnection>) -> Vec<Result<NewJob>> {
        let good = self.verdicts.iter().filter_map(|verdict| verdict.as_ref().ok()).collect::<Vec<_>>();
        let target = transaction.map_or(Target::Pool(&ctx.pg), Target::Transaction);
        let mut written = write::insert_each(target, &good).await.into_iter();
        let verdict_of = |verdict: Result<NewJob>| {
            let job = verdict?;
            written.next().expect("there is a verdict for each good job").map(|()| job)
        };
        self.verdicts.into_iter().map(verdict_of).collect()
    }
}

/// The refusal of the whole when any item is refused or could not be written.
pub fn all_written(verdicts: &[Result<NewJob>], first_index: usize) -> Result<()> {
    let mut refusal = Error::new(Code::ValidationFailed, "Nothing was written, because some of the jobs were refused.");
    for (index, verdict) in (first_index..).zip(verdicts) {
        if let Err(error) = verdict {
            refusal.fields.extend(fields_at(&format!("/jobs/{index}"), error));
        }
    }
    if refusal.fields.is_empty() {
        return Ok(());
    }
    // Where only the room is missing, the same request may pass later.
    let full = verdicts.iter().filter_map(|verdict| verdict.as_ref().err()).all(|error| error.code == Code::QueueFull);
    if full { Err(Error { code: Code::QueueFull, ..refusal }.retry_after(queues::FULL_FOR)) } else { Err(refusal) }
}

/// Brings those that were written before the workers.
pub async fn announce(ctx: &Context, verdicts: &[Result<NewJob>]) {
    let written = verdicts.iter().filter_map(|verdict| verdict.as_ref().ok()).collect::<Vec<_>>();
    race::enqueue(ctx, &written).await;
}

/// Failures of ours concern the whole request and not one item.
fn item_verdict(verdict: Result<NewJob>) -> Result<Result<NewJob>> {
    match verdict {
        Err(error)
            if !matches!(
                error.code,
                Code::ValidationFailed
                    | Code::UnknownKind
                    | Code::PayloadTooLarge
                    | Code::JsonTooDeep
                    | Code::InvalidText
                    | Code::Forbidden
            ) =>
        {
            Err(error)
        }
        verdict => Ok(verdict),
    }
}

async fn refuse_beyond_depth(ctx: &Context, verdicts: &mut [Result<NewJob>]) -> Result<()> {
    let mut rooms = HashMap::new();
    for verdict in verdicts {
        let Ok(job) = verdict else { continue };
        let room = match rooms.get_mut(&job.queue) {
            Some(room) => room,
            None => {
                let room = queues::room(ctx, &job.queue).await?;
                rooms.entry(job.queue.clone()).or_insert(room)
            }
        };
        if *room == 0 {
            *verdict = Err(queues::full(&job.queue));
        } else {
            *room -= 1;
        }
    }
    Ok(())
}

fn fields_at(pointer: &str, error: &Error) -> Vec<FieldError> {
    if error.fields.is_empty() {
        let code = error.code.as_str().to_owned();
        return vec![FieldError { pointer: pointer.to_owned(), code, detail: error.detail.clone().into_owned() }];
    }
    let moved = |field: &FieldError| FieldError { pointer: format!("{pointer}{}", field.pointer), ..field.clone() };
    error.fields.iter().map(moved).collect()
}
