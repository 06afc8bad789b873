//! What is known of a metric without counting it. Which there are: [`metrics`](super::metrics).

use super::metrics::METRICS;
use std::fmt::Write;

/// One line of the list.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    pub name: &'static str,
    pub shape: Shape,
    pub teller: Teller,
    pub appears: Appears,
    pub labels: &'static [&'static str],
    pub meaning: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Counter,
    Gauge,
    Histogram,
}

/// On whose page it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Teller {
    Api,
    Worker,
    /// Each process tells its own.
    Both,
    /// Each API process tells the same of all: take the largest, not the sum.
    Shared,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appears {
    /// From the start.
    Always,
    /// Once there is something to tell.
    Later,
}

impl Metric {
    pub fn find(name: &str) -> Option<&'static Self> {
        METRICS.iter().find(|metric| metric.name == name)
    }

    /// What its name says that it counts in.
    pub fn unit(&self) -> &'static str {
        let name = self.name.trim_end_matches("_total");
        match name {
            _ if name.ends_with("_timestamp_seconds") || name.ends_with("_time_seconds") => "seconds since 1970",
            _ if name.ends_with("_seconds") => "seconds",
            _ if name.ends_with("_bytes") => "bytes",
            _ => "",
        }
    }
}

impl Shape {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Teller {
    const fn words(self) -> &'static str {
        match self {
            Self::Api => "API",
            Self::Worker => "worker",
            Self::Both => "API, worker",
            Self::Shared => "each API, the same",
        }
    }
}

/// `docs/METRICS.md`.
pub fn markdown() -> String {
    let mut table = String::from(
        "# Metrics\n\nWhat API and workers tell on `/metrics`; how to scrape it, and what to watch: [observability](guides/observability.md).\n\
         This page is made from the list in `shared/src/telemetry/metrics.rs` by `millrace-api openapi --metrics`.\n\n\
         ° is there once there is something to tell. What *each API, the same* tells is of all queues and servers: take the largest, not the \
         sum. Histograms have the bounds 0.5 ms to 30 s. On a worker's page all children are added up, but for `process_*`, which have a \
         label `child` (a number, `maintenance` or `supervisor`). Labels are bounded: routes are templates, nothing is an id, and of more \
         than 200 queues the youngest that users brought into being are `queue=\"(other)\"` where queues are looked at, without counters.\n\n",
    );
    table.push_str("| Name | Type | Labels | Unit | Told by | Meaning |\n|---|---|---|---|---|---|\n");
    for metric in METRICS {
        let later = match metric.appears {
            Appears::Always => "",
            Appears::Later => " °",
        };
        let (shape, teller, unit) = (metric.shape.as_str(), metric.teller.words(), metric.unit());
        let labels = metric.labels.join(", ");
        writeln!(table, "| `{}`{later} | {shape} | {labels} | {unit} | {teller} | {} |", metric.name, metric.meaning)
            .expect("writing to a string cannot fail");
    }
    table
}
