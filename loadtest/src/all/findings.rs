//! What is read of the parts' reports: the same types that the parts wrote.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::report::Part;
use crate::files::FilesStep;
use crate::http::{Figures, Mode, Row};
use crate::ingest::IngestRun;
use crate::jobs::Run;
use crate::overload::{Load, Verdict};
use crate::saturation::Saturated;
use crate::ws::{Capacity, Compared, Echo, FanOut, Outcome};

/// The parts by name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Findings<'a>(pub(crate) &'a [Part]);

#[derive(Deserialize)]
struct Rows {
    rows: Vec<Row>,
}

/// Runs, and the one in the middle.
#[derive(Deserialize)]
struct Runs<T> {
    median: usize,
    runs: Vec<T>,
}

#[derive(Deserialize)]
struct Steps {
    steps: Vec<FilesStep>,
}

#[derive(Deserialize)]
struct OfSockets {
    outcome: Outcome,
}

#[derive(Deserialize)]
struct Verdicts {
    verdicts: Vec<Verdict>,
}

#[derive(Deserialize)]
struct Loads {
    loads: Vec<Load>,
}

#[derive(Deserialize)]
struct Resources {
    rows: Vec<Saturated>,
}

impl Findings<'_> {
    fn part(&self, name: &str) -> Option<&Part> {
        self.0.iter().find(|part| part.name == name)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        // A part that failed may have left no report, or one of another build.
        T::deserialize(&self.part(name)?.report).ok()
    }

    /// Why a part has no figures.
    pub(crate) fn why_not(&self, name: &str) -> String {
        match self.part(name) {
            Some(Part { failure: Some(failure), .. }) => failure.clone(),
            Some(_) => "its report cannot be read".to_owned(),
            None => "left out of this run".to_owned(),
        }
    }

    /// The rows of an HTTP part.
    pub(crate) fn rows(&self, name: &str) -> Vec<Row> {
        self.read::<Rows>(name).map_or_else(Vec::new, |report| report.rows)
    }

    /// The figures at half of the peak, on a schedule.
    pub(crate) fn at_half(&self, name: &str) -> Option<Figures> {
        self.rows(name).into_iter().find(|row| row.mode == Mode::Open).map(|row| row.median)
    }

    /// The best of the closed loops: 2xx answers per second, and over how many connections.
    pub(crate) fn peak(&self, name: &str) -> Option<(f64, u32)> {
        let rows = self.rows(name).into_iter().filter(|row| row.mode == Mode::Closed);
        rows.map(|row| (row.median.per_second, row.connections)).max_by(|a, b| a.0.total_cmp(&b.0))
    }

    fn middle<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let mut report = self.read::<Runs<T>>(name)?;
        (report.median < report.runs.len()).then(|| report.runs.swap_remove(report.median))
    }

    /// The run in the middle of a part of jobs.
    pub(crate) fn jobs(&self, name: &str) -> Option<Run> {
        self.middle(name)
    }

    pub(crate) fn points(&self) -> Option<IngestRun> {
        self.middle("points")
    }

    pub(crate) fn files(&self) -> Vec<FilesStep> {
        self.read::<Steps>("files").map_or_else(Vec::new, |report| report.steps)
    }

    pub(crate) fn capacity(&self) -> Option<Capacity> {
        match self.read::<OfSockets>("sockets")?.outcome {
            Outcome::Capacity(compared) => median_run(compared),
            Outcome::Echo(_) | Outcome::FanOut(_) | Outcome::Stuck(_) => None,
        }
    }

    pub(crate) fn broadcast(&self) -> Option<FanOut> {
        match self.read::<OfSockets>("broadcast")?.outcome {
            Outcome::FanOut(compared) => median_run(compared),
            Outcome::Capacity(_) | Outcome::Echo(_) | Outcome::Stuck(_) => None,
        }
    }

    pub(crate) fn echo(&self) -> Option<Echo> {
        match self.read::<OfSockets>("echo")?.outcome {
            Outcome::Echo(compared) => median_run(compared),
            Outcome::Capacity(_) | Outcome::FanOut(_) | Outcome::Stuck(_) => None,
        }
    }

    /// What was taken until there was no more, and given back.
    pub(crate) fn saturated(&self) -> Option<Vec<Saturated>> {
        self.read::<Resources>("saturation").map(|report| report.rows)
    }

    /// The verdicts that overload gives itself.
    pub(crate) fn verdicts(&self) -> Option<Vec<Verdict>> {
        self.read::<Verdicts>("overload").map(|report| report.verdicts)
    }

    /// The loads above and below the peak.
    pub(crate) fn loads(&self) -> Vec<Load> {
        self.read::<Loads>("overload").map_or_else(Vec::new, |report| report.loads)
    }
}

fn median_run<T>(mut compared: Compared<T>) -> Option<T> {
    (compared.median < compared.runs.len()).then(|| compared.runs.swap_remove(compared.median))
}
