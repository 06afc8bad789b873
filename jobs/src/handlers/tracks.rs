//! `tracks.*`: kinds that take points in from files, and make files of them.

use crate::registry::JobContext;
use serde::Serialize;
use serde_json::value::to_raw_value;
use shared::{
    Error, Result,
    jobs::{JobError, engine::Outcome},
    points::import::{self, ImportTracks},
    tracks::report::{self, ReportTracks},
};

/// `tracks.import`: accepts the points of a file. A run that is repeated changes nothing: a point is known by its track and time.
pub async fn import(context: JobContext, asked: ImportTracks) -> Outcome {
    let progress = |percent: f64, message: &str| context.progress(percent, Some(message));
    let run = import::run::run(&context.ctx, context.job.owner_id, asked, progress);
    context.until_stopped(run).await.map_or(Outcome::Cancelled, ended)
}

/// `tracks.report`: writes a file; that of a run that is repeated takes its place.
pub async fn report(context: JobContext, asked: ReportTracks) -> Outcome {
    let progress = |percent: f64, message: &str| context.progress(percent, Some(message));
    let run = report::run::run(&context.ctx, context.job.owner_id, context.job.id(), &asked, progress);
    context.until_stopped(run).await.map_or(Outcome::Cancelled, ended)
}

/// What was refused will be refused again; what failed may pass later.
fn ended(run: Result<impl Serialize>) -> Outcome {
    match run {
        Ok(report) => match to_raw_value(&report) {
            Ok(result) => Outcome::Done(result),
            Err(error) => Outcome::retry("report", error.to_string()),
        },
        Err(error) if error.is_refusal() => Outcome::Discard(told(error)),
        Err(error) => {
            let JobError { code, message } = told(error);
            Outcome::retry(&code, message)
        }
    }
}

/// The broken rules stand in it, since a job's error has one text.
fn told(error: Error) -> JobError {
    let rules = error.fields.iter().map(|field| format!(" `{}` {}.", field.pointer, field.detail));
    JobError { code: error.code.as_str().to_owned(), message: format!("{}{}", error.detail, rules.collect::<String>()) }
}
