//! How often each job really ran, counted apart from the engine's own records: each start of an attempt is a line in the log
//! of its worker, written before the handler is called.

use serde::Deserialize;
use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::Path,
};

/// The ordinals of the attempts that began, by job.
pub(crate) type Runs = HashMap<String, Vec<i32>>;

#[derive(Debug, Deserialize)]
struct Line {
    message: Option<String>,
    span: Option<Span>,
}

#[derive(Debug, Deserialize)]
struct Span {
    job_id: Option<String>,
    attempt: Option<i32>,
}

pub(crate) fn read(logs: &Path) -> Runs {
    let mut runs = Runs::new();
    for file in fs::read_dir(logs).unwrap().flatten() {
        for line in BufReader::new(File::open(file.path()).unwrap()).lines() {
            // The last line of a killed process may be torn.
            let Ok(line) = serde_json::from_str::<Line>(&line.unwrap()) else { continue };
            let (Some("the attempt starts"), Some(Span { job_id: Some(id), attempt: Some(attempt) })) =
                (line.message.as_deref(), line.span)
            else {
                continue;
            };
            runs.entry(id).or_default().push(attempt);
        }
    }
    runs
}
