//! Submit many jobs at once, with a verdict for each in order.

use super::{
    NewJob, SubmitJob, dependencies,
    new_job::Origin,
    queues::{self, Creator, Durability},
    race, submit,
    unique::{self, Accepted},
    volatile,
    write::{Target, Written},
};
use crate::{Caller, Code, Context, Error, FieldError, Result, Scope, ids::JobId};
use sqlx::PgConnection;
use std::collections::{HashMap, HashSet};

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
    let known = dependencies::resolve(ctx, caller, items.iter().filter_map(|item| item.as_ref().ok())).await?;
    let mut verdicts = Vec::with_capacity(items.len());
    for item in items {
        verdicts.push(match item {
            Ok(submit) => item_verdict(submit::prepare_knowing(ctx, caller, submit, origin.clone(), &known).await)?,
            Err(error) => Err(error),
        });
    }
    refuse_beyond_depth(ctx, caller.into(), &mut verdicts).await?;
    Ok(Prepared { verdicts })
}

impl Prepared {
    /// The refusal of the whole when any item is refused: its fields point at `/jobs/<index>/…`.
    pub fn all_or_nothing(&self, first_index: usize) -> Result<()> {
        let detail = "is kept by Redis alone, where nothing can be written with other jobs or not at all";
        let volatile = Error::invalid("/queue", "not_supported", detail);
        let refused = self.verdicts.iter().map(|verdict| match verdict {
            Ok(job) => (job.durability == Durability::Redis).then_some(&volatile),
            Err(error) => Some(error),
        });
        refusal(refused, first_index)
    }

    /// Writes the good ones, in the caller's transaction if there is one, and answers for each item in order.
    ///
    /// After the commit call [`announce`] with the jobs that this returns.
    pub async fn write(self, ctx: &Context, mut transaction: Option<&mut PgConnection>) -> Vec<Result<Accepted>> {
        let good = self.verdicts.iter().filter_map(|verdict| verdict.as_ref().ok()).collect::<Vec<_>>();
        let written = volatile::write_each(ctx, target(ctx, &mut transaction), &good).await;
        let is_new = |(job, written): (&&NewJob, &Result<Written>)| matches!(written, Ok(Written::New)).then_some(job.id);
        let ours = good.iter().zip(&written).filter_map(is_new).collect::<HashSet<JobId>>();
        let mut written = written.into_iter();
        let (mut places, mut held) = (Vec::new(), Vec::new());
        let mut verdicts = Vec::with_capacity(self.verdicts.len());
        for (at, verdict) in self.verdicts.into_iter().enumerate() {
            verdicts.push(match verdict {
                Ok(job) => match written.next().expect("there is a verdict for each good job") {
                    Ok(Written::New) => Ok(Accepted::New(job)),
                    Ok(Written::Held(holder)) => {
                        places.push(at);
                        held.push((job, holder));
                        Ok(Accepted::Existing(holder))
                    }
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            });
        }
        if !held.is_empty() {
            let met = unique::meet_each(&ctx.for_process(), target(ctx, &mut transaction), held, &ours).await;
            places.into_iter().zip(met).for_each(|(at, verdict)| verdicts[at] = verdict);
        }
        verdicts
    }
}

fn target<'a>(ctx: &'a Context, transaction: &'a mut Option<&mut PgConnection>) -> Target<'a> {
    transaction.as_deref_mut().map_or(Target::Pool(&ctx.pg), Target::Transaction)
}

/// The refusal of the whole when any item is refused or could not be written.
pub fn all_written(verdicts: &[Result<Accepted>], first_index: usize) -> Result<()> {
    refusal(verdicts.iter().map(|verdict| verdict.as_ref().err()), first_index)
}

fn refusal<'a>(verdicts: impl Iterator<Item = Option<&'a Error>> + Clone, first_index: usize) -> Result<()> {
    let mut refusal = Error::new(Code::ValidationFailed, "Nothing was written, because some of the jobs were refused.");
    for (index, verdict) in (first_index..).zip(verdicts.clone()) {
        if let Some(error) = verdict {
            refusal.fields.extend(fields_at(&format!("/jobs/{index}"), error));
        }
    }
    if refusal.fields.is_empty() {
        return Ok(());
    }
    // Where only the room is missing, the same request may pass later.
    let full = verdicts.flatten().all(|error| error.code == Code::QueueFull);
    if full { Err(Error { code: Code::QueueFull, ..refusal }.retry_after(queues::FULL_FOR)) } else { Err(refusal) }
}

/// Brings those that were written before the workers, and ends those that they replace.
pub async fn announce(ctx: &Context, verdicts: &[Result<Accepted>]) {
    let written = verdicts.iter().filter_map(|verdict| match verdict {
        Ok(Accepted::New(job)) => Some(job),
        Ok(Accepted::Existing(_)) | Err(_) => None,
    });
    let written = written.collect::<Vec<_>>();
    race::enqueue(ctx, &written).await;
    race::cancel_replaced(ctx, &written).await;
    dependencies::look_after(ctx, &written).await;
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

async fn refuse_beyond_depth(ctx: &Context, creator: Creator, verdicts: &mut [Result<NewJob>]) -> Result<()> {
    let mut rooms = HashMap::new();
    for verdict in verdicts {
        let Ok(job) = verdict else { continue };
        let room = match rooms.get_mut(&job.queue) {
            Some(room) => room,
            None => {
                let room = queues::room(ctx, &job.queue, creator).await?;
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
