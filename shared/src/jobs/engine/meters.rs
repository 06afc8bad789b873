//! The metrics of deliveries, with their handles kept: looking one up by its labels costs more than counting does.

use super::rates::Pickups;
use crate::{
    jobs::{JobKind, QueueName, kinds},
    telemetry::metrics::{JOB_FINISHED, JOB_LAST_PROCESSED, JOB_PICKUP, JOB_RUN, JOB_STARTED},
};
use metrics::{Counter, Gauge, Histogram};
use std::{collections::HashMap, time::Duration};

/// What is measured of one kind on one queue.
struct KindMeters {
    started: Counter,
    run: Histogram,
    finished: HashMap<&'static str, Counter>,
    queue: String,
    kind: String,
}

/// Kinds that we do not run share one label, so that callers cannot make labels up.
fn label(kind: &JobKind) -> &str {
    if kinds::find(kind).is_some() { kind.as_str() } else { "other" }
}

#[derive(Default)]
pub(super) struct Meters {
    kinds: HashMap<(QueueName, JobKind), KindMeters>,
    pickup: HashMap<QueueName, (Histogram, Pickups)>,
    last_processed: Option<Gauge>,
}

impl Meters {
    fn of(&mut self, queue: &QueueName, kind: &JobKind) -> &mut KindMeters {
        self.kinds.entry((queue.clone(), kind.clone())).or_insert_with(|| {
            let (queue, kind) = (queue.to_string(), label(kind).to_owned());
            KindMeters {
                started: metrics::counter!(JOB_STARTED, "queue" => queue.clone(), "kind" => kind.clone()),
                run: metrics::histogram!(JOB_RUN, "queue" => queue.clone(), "kind" => kind.clone()),
                finished: HashMap::new(),
                queue,
                kind,
            }
        })
    }

    pub(super) fn started(&mut self, queue: &QueueName, kind: &JobKind, pickup: Duration) {
        self.of(queue, kind).started.increment(1);
        let of_queue = || (metrics::histogram!(JOB_PICKUP, "queue" => queue.to_string()), Pickups::default());
        let (histogram, pickups) = self.pickup.entry(queue.clone()).or_insert_with(of_queue);
        histogram.record(pickup);
        pickups.note(pickup);
    }

    /// What was noted of each queue since the last call.
    pub(super) fn take_pickups(&mut self) -> Vec<(QueueName, Pickups)> {
        let noted = self.pickup.iter_mut().filter(|(_, (_, pickups))| !pickups.is_empty());
        noted.map(|(queue, (_, pickups))| (queue.clone(), std::mem::take(pickups))).collect()
    }

    /// `outcome` is one of the outcomes' names; `ran` is `None` for what never started.
    pub(super) fn finished(&mut self, queue: &QueueName, kind: &JobKind, outcome: &'static str, ran: Option<Duration>) {
        let meters = self.of(queue, kind);
        if let Some(ran) = ran {
            meters.run.record(ran);
        }
        let (queue, kind) = (&meters.queue, &meters.kind);
        let finished = meters
            .finished
            .entry(outcome)
            .or_insert_with(|| metrics::counter!(JOB_FINISHED, "queue" => queue.clone(), "kind" => kind.clone(), "outcome" => outcome));
        finished.increment(1);
    }

    pub(super) fn processed_at(&mut self, unix_s: f64) {
        self.last_processed.get_or_insert_with(|| metrics::gauge!(JOB_LAST_PROCESSED)).set(unix_s);
    }
}
