//! The figures of a run, and the median of several.

use std::collections::{BTreeMap, BTreeSet};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::generator::{Load, Plan};
use crate::process::Usage;

/// What a run measured, or the median of each figure over several runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figures {
    /// Responses to the requests of the measured time.
    pub requests: u64,
    /// 2xx responses per second.
    pub per_second: f64,
    pub latency_ms: Option<Percentiles>,
    /// Responses other than 2xx.
    pub refusal_latency_ms: Option<Percentiles>,
    /// Open loop: from the actual sending, whereas latency counts from when it was due.
    pub service_time_ms: Option<Percentiles>,
    pub statuses: BTreeMap<u16, u64>,
    pub errors: Errors,
    pub schedule: Option<Schedule>,
    /// Connections made again after the server closed one.
    pub reconnects: u64,
    pub connect_ms: f64,
    /// Connections that could not be made before the run.
    pub unconnected: u64,
    pub server: Option<Usage>,
    /// CPU time of the server per response: steadier than a rate when the machine has other work.
    pub server_cpu_us_per_request: Option<f64>,
    pub generator: Option<Usage>,
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Percentiles {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub max: f64,
}

/// Requests without a 2xx response.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Errors {
    pub total: u64,
    pub not_2xx: u64,
    pub timeouts: u64,
    pub closed: u64,
    pub malformed: u64,
    pub connect_failures: u64,
}

/// How the open loop's schedule was kept.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Schedule {
    /// Requests due in the measured time.
    pub offered: u64,
    /// Of these, given up because no connection was free.
    pub unsent: u64,
    /// Sent more than a millisecond after they were due.
    pub late: u64,
}

/// What the processes used: those of the server, and the load tester.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usages {
    pub(crate) server: Option<Usage>,
    pub(crate) generator: Option<Usage>,
}

impl Figures {
    pub(crate) fn of(plan: &Plan, load: Load, usages: Usages) -> Self {
        let recorder = load.recorder;
        let is_ok = |status: u16| (200..300).contains(&status);
        let requests = recorder.statuses.values().sum();
        let refused = recorder.statuses.iter().filter(|(status, _)| !is_ok(**status));
        let mut errors = Errors {
            total: 0,
            not_2xx: refused.map(|(_, count)| count).sum(),
            timeouts: recorder.timeouts,
            closed: recorder.closed,
            malformed: recorder.malformed,
            connect_failures: recorder.connect_failures,
        };
        errors.total = errors.not_2xx + errors.timeouts + errors.closed + errors.malformed + errors.connect_failures;
        let schedule =
            load.offered.map(|offered| Schedule { offered, unsent: offered.saturating_sub(recorder.started), late: recorder.late });
        let service_time = schedule.map(|_| &recorder.service_time);
        Self {
            requests,
            per_second: recorder.ok_in_window as f64 / plan.duration.as_secs_f64(),
            latency_ms: Percentiles::of(&recorder.latency),
            refusal_latency_ms: Percentiles::of(&recorder.refusal_latency),
            service_time_ms: service_time.and_then(Percentiles::of),
            statuses: recorder.statuses,
            errors,
            schedule,
            reconnects: recorder.reconnects,
            connect_ms: load.connect_time.as_secs_f64() * 1e3,
            unconnected: u64::from(load.unconnected),
            server: usages.server,
            server_cpu_us_per_request: usages.server.filter(|_| requests > 0).map(|usage| {
                let cpu_us = usage.cpu_percent / 100.0 * plan.duration.as_secs_f64() * 1e6;
                cpu_us / requests as f64
            }),
            generator: usages.generator,
        }
    }

    /// The median of each figure by itself; a figure that some runs lack is that of the others.
    pub(crate) fn median(runs: &[Figures]) -> Self {
        let count = |of: &dyn Fn(&Figures) -> u64| median_count(runs.iter().map(of));
        let error = |of: &dyn Fn(&Errors) -> u64| count(&|run| of(&run.errors));
        let statuses: BTreeSet<u16> = runs.iter().flat_map(|run| run.statuses.keys()).copied().collect();
        let status_count = |status| count(&|run: &Figures| run.statuses.get(&status).copied().unwrap_or(0));
        Self {
            requests: count(&|run| run.requests),
            per_second: median(runs.iter().map(|run| run.per_second)),
            latency_ms: Percentiles::median(runs, |run| run.latency_ms),
            refusal_latency_ms: Percentiles::median(runs, |run| run.refusal_latency_ms),
            service_time_ms: Percentiles::median(runs, |run| run.service_time_ms),
            statuses: statuses.iter().map(|status| (*status, status_count(*status))).collect(),
            errors: Errors {
                total: error(&|errors| errors.total),
                not_2xx: error(&|errors| errors.not_2xx),
                timeouts: error(&|errors| errors.timeouts),
                closed: error(&|errors| errors.closed),
                malformed: error(&|errors| errors.malformed),
                connect_failures: error(&|errors| errors.connect_failures),
            },
            schedule: some(runs, |run| run.schedule).map(|schedules| Schedule {
                offered: median_count(schedules.iter().map(|schedule| schedule.offered)),
                unsent: median_count(schedules.iter().map(|schedule| schedule.unsent)),
                late: median_count(schedules.iter().map(|schedule| schedule.late)),
            }),
            reconnects: count(&|run| run.reconnects),
            connect_ms: median(runs.iter().map(|run| run.connect_ms)),
            unconnected: count(&|run| run.unconnected),
            server: median_usage(runs, |run| run.server),
            server_cpu_us_per_request: some(runs, |run| run.server_cpu_us_per_request).map(|all| median(all.into_iter())),
            generator: median_usage(runs, |run| run.generator),
        }
    }
}

impl Percentiles {
    /// None when nothing was recorded.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let ms = |nanos: u64| nanos as f64 / 1e6;
        let at = |quantile| ms(histogram.value_at_quantile(quantile));
        (!histogram.is_empty()).then(|| Self {
            mean: histogram.mean() / 1e6,
            p50: at(0.50),
            p90: at(0.90),
            p99: at(0.99),
            p99_9: at(0.999),
            max: ms(histogram.max()),
        })
    }

    fn median(runs: &[Figures], of: impl Fn(&Figures) -> Option<Self>) -> Option<Self> {
        let all = some(runs, of)?;
        let each = |of: &dyn Fn(&Self) -> f64| median(all.iter().map(of));
        Some(Self {
            mean: each(&|percentiles| percentiles.mean),
            p50: each(&|percentiles| percentiles.p50),
            p90: each(&|percentiles| percentiles.p90),
            p99: each(&|percentiles| percentiles.p99),
            p99_9: each(&|percentiles| percentiles.p99_9),
            max: each(&|percentiles| percentiles.max),
        })
    }
}

fn median_usage(runs: &[Figures], of: impl Fn(&Figures) -> Option<Usage>) -> Option<Usage> {
    let all = some(runs, of)?;
    Some(Usage {
        cpu_percent: median(all.iter().map(|usage| usage.cpu_percent)),
        rss_bytes: median_count(all.iter().map(|usage| usage.rss_bytes)),
        rss_peak_bytes: median_count(all.iter().map(|usage| usage.rss_peak_bytes)),
    })
}

/// The figure in those runs that have it; None when none has.
fn some<T>(runs: &[Figures], of: impl Fn(&Figures) -> Option<T>) -> Option<Vec<T>> {
    let all: Vec<T> = runs.iter().filter_map(of).collect();
    (!all.is_empty()).then_some(all)
}

/// The middle value, or the mean of the two in the middle; 0 of none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        _ if sorted.is_empty() => 0.0,
        0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    }
}

fn median_count(values: impl Iterator<Item = u64>) -> u64 {
    median(values.map(|value| value as f64)).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_middle_two() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert_eq!(median([].into_iter()), 0.0);
        assert_eq!(median_count([5, 1_000_000, 7].into_iter()), 7);
    }
}
