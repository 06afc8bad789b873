//! The recorder that renders what is counted for Prometheus: one for processes that stay ([`install`]), one for those that live for moments.

use super::{
    metric::{Appears, Shape, Teller},
    metrics::METRICS,
    process,
    tally::Tally,
};
pub use metrics_exporter_prometheus::PrometheusHandle as MetricsHandle;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use std::{sync::OnceLock, time::Duration};
use tokio::time;

/// How often [`keep_up`] folds samples: a second's worth of requests is a few megabytes at most.
const UPKEEP_EVERY: Duration = Duration::from_secs(1);

/// Folds recorded samples into their histograms, for ever; spawn it once per process. The recorder keeps every sample
/// until then, and reading the metrics is no substitute: a process that nobody scrapes would grow with each request.
pub async fn keep_up(handle: MetricsHandle) {
    let mut ticks = time::interval(UPKEEP_EVERY);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}

/// Upper bounds of the histograms' buckets, in seconds.
pub(super) const BUCKETS: [f64; 15] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Installs the recorder of a process that may live for moments only; the first caller does it, later ones share it.
pub fn install_tally() -> Tally {
    static TALLY: OnceLock<Tally> = OnceLock::new();
    TALLY.get_or_init(|| Tally::install().expect("nothing else in this program installs a recorder")).clone()
}

/// Installs the recorder; the first caller of the process does it, later ones share the handle.
pub fn install(teller: Teller) -> MetricsHandle {
    static HANDLE: OnceLock<MetricsHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let builder = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)
                .expect("the list of buckets is not empty");
            let handle = builder.install_recorder().expect("nothing else in this program installs a recorder");
            describe();
            begin_at_zero(teller);
            process::started();
            handle
        })
        .clone()
}

fn describe() {
    for metric in METRICS {
        match metric.shape {
            Shape::Counter => metrics::describe_counter!(metric.name, metric.meaning),
            Shape::Gauge => metrics::describe_gauge!(metric.name, metric.meaning),
            Shape::Histogram => metrics::describe_histogram!(metric.name, metric.meaning),
        }
    }
}

/// What has no labels is there from the start: a count that is absent is neither 0 nor rising. What the process reads about itself
/// ([`process`]) is told without the recorder.
fn begin_at_zero(teller: Teller) {
    let is_ours = |of: Teller| of == teller || of == Teller::Both;
    let plain = METRICS.iter().filter(|metric| metric.labels.is_empty() && metric.appears == Appears::Always && is_ours(metric.teller));
    for metric in plain.filter(|metric| !metric.name.starts_with("process_")) {
        match metric.shape {
            Shape::Counter => metrics::counter!(metric.name).increment(0),
            Shape::Gauge => metrics::gauge!(metric.name).increment(0.0),
            // It is there as soon as somebody holds it.
            Shape::Histogram => drop(metrics::histogram!(metric.name)),
        }
    }
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    metrics::gauge!(super::metrics::BUILD, "version" => env!("CARGO_PKG_VERSION"), "build" => build).set(1.0);
}
