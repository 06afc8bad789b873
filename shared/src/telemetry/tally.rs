//! A plain recorder of metrics for processes that live for moments: counts, gauges and histograms in atomics, told in Prometheus'
//! text form. The exporter that other processes use calibrates a clock when it starts, for several milliseconds at full load;
//! a child of a worker may have to be started forty times a second.

use super::{
    page::{Page, labels},
    recorder::BUCKETS,
};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SetRecorderError, SharedString, Unit,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

/// Cheap to clone; reads what the recorder of this process has counted.
#[derive(Debug, Clone, Default)]
pub struct Tally(Arc<Mutex<Families>>);

#[derive(Debug, Default)]
struct Families {
    /// By name, then by labels as they are told.
    counters: BTreeMap<String, BTreeMap<String, Arc<Count>>>,
    gauges: BTreeMap<String, BTreeMap<String, Arc<Level>>>,
    histograms: BTreeMap<String, BTreeMap<String, Arc<Spread>>>,
}

impl Tally {
    /// Makes it the recorder of this process.
    pub(super) fn install() -> Result<Self, SetRecorderError<Self>> {
        let tally = Self::default();
        metrics::set_global_recorder(tally.clone())?;
        Ok(tally)
    }

    fn families(&self) -> MutexGuard<'_, Families> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }

    pub fn render(&self) -> String {
        let families = self.families();
        let mut page = Page::default();
        for (name, series) in &families.counters {
            page.head(name, "counter");
            for (labels, count) in series {
                page.line(name, labels, count.0.load(Ordering::Relaxed));
            }
        }
        for (name, series) in &families.gauges {
            page.head(name, "gauge");
            for (labels, level) in series {
                page.line(name, labels, level.0.get());
            }
        }
        for (name, series) in &families.histograms {
            page.head(name, "histogram");
            for (labels, spread) in series {
                spread.render(&mut page, name, labels);
            }
        }
        page.into_text()
    }
}

fn labels_of(key: &Key) -> String {
    labels(key.labels().map(|label| (label.key(), label.value())))
}

fn known<T: Default>(families: &mut BTreeMap<String, BTreeMap<String, Arc<T>>>, key: &Key) -> Arc<T> {
    Arc::clone(families.entry(key.name().to_owned()).or_default().entry(labels_of(key)).or_default())
}

impl Recorder for Tally {
    // What each means is in the list, and read when it is told.
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(known(&mut self.families().counters, key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(known(&mut self.families().gauges, key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(known(&mut self.families().histograms, key))
    }
}

#[derive(Debug, Default)]
struct Count(AtomicU64);

impl CounterFn for Count {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }
}

/// A number with a fraction, in the bits of an integer.
#[derive(Debug, Default)]
struct Number(AtomicU64);

impl Number {
    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn add(&self, value: f64) {
        let sum = |bits| Some((f64::from_bits(bits) + value).to_bits());
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
    }
}

#[derive(Debug, Default)]
struct Level(Number);

impl GaugeFn for Level {
    fn increment(&self, value: f64) {
        self.0.add(value);
    }

    fn decrement(&self, value: f64) {
        self.0.add(-value);
    }

    fn set(&self, value: f64) {
        self.0.0.store(value.to_bits(), Ordering::Relaxed);
    }
}

/// How many samples fell between which bounds.
#[derive(Debug, Default)]
struct Spread {
    /// Beneath each of [`BUCKETS`], and above the last.
    counts: [AtomicU64; BUCKETS.len() + 1],
    sum: Number,
}

impl HistogramFn for Spread {
    fn record(&self, value: f64) {
        let at = BUCKETS.partition_point(|bound| *bound < value);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum.add(value);
    }
}

impl Spread {
    fn render(&self, page: &mut Page, name: &str, labels: &str) {
        let comma = if labels.is_empty() { "" } else { "," };
        let bounds = BUCKETS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        let mut n_samples = 0;
        for (bound, count) in bounds.zip(&self.counts) {
            n_samples += count.load(Ordering::Relaxed);
            page.line(&format!("{name}_bucket"), &format!("{labels}{comma}le=\"{bound}\""), n_samples);
        }
        page.line(&format!("{name}_sum"), labels, self.sum.get());
        page.line(&format!("{name}_count"), labels, n_samples);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_what_the_exporter_would() {
        let tally = Tally::default();
        metrics::with_local_recorder(&tally, || {
            metrics::counter!("job_submitted_total", "queue" => "a \"b\"").increment(2);
            metrics::counter!("job_submitted_total", "queue" => "a \"b\"").increment(1);
            metrics::gauge!("running").set(1.5);
            metrics::gauge!("running").increment(1.0);
            for seconds in [0.0004, 0.001, 99.0] {
                metrics::histogram!("run_seconds", "kind" => "echo").record(seconds);
            }
        });
        let text = tally.render();
        let has = |line: &str| assert!(text.contains(&format!("{line}\n")), "{line} is missing:\n{text}");
        has("# HELP job_submitted_total Jobs accepted.\n# TYPE job_submitted_total counter\njob_submitted_total{queue=\"a \\\"b\\\"\"} 3");
        has("# TYPE running gauge\nrunning 2.5");
        has("run_seconds_bucket{kind=\"echo\",le=\"0.0005\"} 1\nrun_seconds_bucket{kind=\"echo\",le=\"0.001\"} 2");
        has("run_seconds_bucket{kind=\"echo\",le=\"30\"} 2\nrun_seconds_bucket{kind=\"echo\",le=\"+Inf\"} 3");
        has("run_seconds_count{kind=\"echo\"} 3");
    }
}
