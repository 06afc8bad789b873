//! One ramp of `ws capacity`: more and more sockets, each step held, looked at, and compared with those before.

use std::fs;
use std::time::Duration;

use super::args::CapacityArgs;
use super::crew::Crew;
use super::echo::{collect, measure};
use super::orders::{Dialect, EchoOrder, Order, State};
use super::report::{Advice, Capacity, CapacityStep, Degradation, Estimate, Opening};
use super::site::{Side, Site, Sockets, shares, window};
use crate::error::Error;
use crate::http::Percentiles;
use crate::output::Output;
use crate::process::Watch;

/// Sockets that are asked while a step is held, and how long each waits between two questions: 50 a second cost nothing.
const N_PROBES: u32 = 10;
const PROBE_PAUSE: Duration = Duration::from_millis(200);
/// A step is worse when it is this many times slower than the best before it, by connects or by probes.
const TOLERATED: f64 = 2.0;
const TOLERATED_PROBE: f64 = 4.0;
/// Probes below this are never called slow.
const QUICK_PROBE_MS: f64 = 20.0;
/// Part of the sockets of a step that may fail.
const TOLERATED_FAILURES: f64 = 0.001;
/// For how many sockets the arithmetic is done.
const ESTIMATED: [u32; 3] = [10_000, 24_000, 100_000];
/// Longest wait for the last probes of a step.
const PROBE_WITHIN: Duration = Duration::from_secs(60);

pub(super) fn run(
    site: &mut Site<'_>,
    side: &Side,
    args: &CapacityArgs,
    rss_before_bytes: u64,
    output: &mut Output<'_>,
) -> Result<Capacity, Error> {
    let n_steps = args.max.div_ceil(args.step);
    let sockets = Sockets { n_sockets: args.max, n_channels: args.channels, reconnects: false, rpc_method: "time" };
    let needed_for = (args.hold + site.args.timeout) * n_steps + args.soak;
    let mut crew = site.crew(side, sockets, needed_for)?;
    let mut steps: Vec<CapacityStep> = Vec::new();
    let mut degraded_at = None;
    for step in 1..=n_steps {
        let is_last = step == n_steps;
        let hold = if is_last { args.soak.max(args.hold) } else { args.hold };
        let n_more = if is_last { args.max - args.step * (n_steps - 1) } else { args.step };
        let step = take_step(&mut crew, side, n_more, hold, rss_before_bytes)?;
        output.note(&format!("{} sockets, {:.0} connects/s, {} failed", step.sockets, step.connects_per_s, step.failed))?;
        degraded_at = degraded_at.or_else(|| degradation(&step, &steps));
        let is_over = step.opened == 0;
        steps.push(step);
        if is_over {
            break;
        }
    }
    let last_good = |step: &&CapacityStep| degraded_at.as_ref().is_none_or(|at| step.sockets < at.sockets);
    let sustained = steps.iter().rev().find(last_good).map_or(0, |step| step.sockets);
    let kb_per_socket = steps.iter().rev().find_map(|step| step.kb_per_socket);
    let advice = advice(&steps, sustained, degraded_at.is_some(), rss_before_bytes, args.workers.unwrap_or_else(|| n_workers(&side.pids)));
    Ok(Capacity { channels: args.channels, rss_before_bytes, steps, degraded_at, sustained, kb_per_socket, advice })
}

/// The servers' memory now.
pub(super) fn rss_bytes(side: &Side) -> u64 {
    Watch::new(&side.pids).rss_bytes()
}

fn take_step(crew: &mut Crew, side: &Side, n_more: u32, hold: Duration, rss_before_bytes: u64) -> Result<CapacityStep, Error> {
    let before = crew.state()?;
    let shares = shares(n_more, crew.len() as u32, 0);
    let after = crew.open(&shares, &mut || ())?;
    let opening = opening_of(&before, &after);
    let probes =
        EchoOrder { n_sockets: N_PROBES, pause_ns: PROBE_PAUSE.as_nanos() as u64, window: window(Duration::ZERO, hold), n_padding: 0 };
    // Every socket of the bare fan-out would get each probe.
    let is_probed = side.dialect == Dialect::Protocol;
    if is_probed {
        crew.order(0, &Order::Echo(probes))?;
    }
    let usages = measure(probes.window, side, crew);
    let probe_ms: Option<Percentiles> = if is_probed { collect(crew, 1, PROBE_WITHIN)?.latency_ms } else { None };
    let state = crew.state()?;
    let above = usages.rss_bytes().saturating_sub(rss_before_bytes);
    let has_memory = !usages.servers.is_empty() && state.ready > 0;
    Ok(CapacityStep {
        sockets: state.ready,
        opened: opening.opened,
        failed: opening.failed,
        lost: state.lost - before.lost,
        connects_per_s: opening.connects_per_s,
        heartbeats: state.heartbeats,
        closes: state.closes,
        causes: state.causes,
        probe_ms,
        usages,
        kb_per_socket: has_memory.then(|| above as f64 / 1e3 / f64::from(state.ready)),
    })
}

/// What the last order to open came to, the counts being since the beginning.
fn opening_of(before: &State, after: &[State]) -> Opening {
    let whole = Opening::of(after);
    let opened = whole.opened.saturating_sub(before.ready);
    let share = if whole.opened > 0 { f64::from(opened) / f64::from(whole.opened) } else { 0.0 };
    Opening { opened, failed: whole.failed - before.failed, connects_per_s: whole.connects_per_s * share, causes: whole.causes }
}

fn degradation(step: &CapacityStep, before: &[CapacityStep]) -> Option<Degradation> {
    let because = |reason: String| Some(Degradation { sockets: step.sockets, reason });
    let n_tried = f64::from(step.opened + step.failed);
    if f64::from(step.failed) > TOLERATED_FAILURES * n_tried {
        return because(format!("{} of {n_tried} sockets could not be opened", step.failed));
    }
    if step.lost > 0 {
        return because(format!("{} sockets were lost", step.lost));
    }
    let best_connects = before.iter().map(|step| step.connects_per_s).fold(0.0, f64::max);
    if step.connects_per_s * TOLERATED < best_connects {
        return because(format!("{:.0} connects/s where it was {best_connects:.0}", step.connects_per_s));
    }
    let p99 = |step: &CapacityStep| step.probe_ms.as_ref().map(|probe| probe.p99);
    let best_probe = before.iter().filter_map(p99).fold(f64::INFINITY, f64::min);
    match p99(step) {
        Some(p99) if p99 > QUICK_PROBE_MS.max(TOLERATED_PROBE * best_probe) && best_probe.is_finite() => {
            because(format!("p99 of a request {p99:.1} ms where it was {best_probe:.1}"))
        }
        Some(_) | None => None,
    }
}

fn advice(steps: &[CapacityStep], sustained: u32, is_limit: bool, rss_before_bytes: u64, workers: u32) -> Option<Advice> {
    let last = steps.iter().rev().find(|step| step.sockets <= sustained)?;
    let bytes_per_socket = last.kb_per_socket? * 1e3;
    if workers == 0 || sustained == 0 {
        return None;
    }
    let sockets_per_worker = (sustained / workers).max(1);
    let cpu_per_socket = last.usages.server_cpu_percent() / f64::from(last.sockets);
    let estimate = |sockets: u32| Estimate {
        sockets,
        workers: sockets.div_ceil(sockets_per_worker),
        memory_bytes: rss_before_bytes + (bytes_per_socket * f64::from(sockets)) as u64,
        cpu_percent: cpu_per_socket * f64::from(sockets),
    };
    Some(Advice { workers, sockets_per_worker, is_limit, estimates: ESTIMATED.map(estimate).to_vec() })
}

/// Threads of the servers that serve, by their names: the platform's are `api-w<n>`, actix's own `actix-rt|…`.
fn n_workers(pids: &[u32]) -> u32 {
    let is_worker = |name: &str| name.starts_with("api-w") || name.contains("actix-rt") || name.contains("actix-server w");
    let threads = pids.iter().flat_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten());
    let names = threads.filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
    u32::try_from(names.filter(|name| is_worker(name)).count()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::meter::Usages;
    use super::*;

    fn step(sockets: u32, connects_per_s: f64, failed: u32) -> CapacityStep {
        CapacityStep {
            sockets,
            opened: 1_000,
            failed,
            lost: 0,
            connects_per_s,
            heartbeats: 0,
            closes: Default::default(),
            causes: Default::default(),
            probe_ms: None,
            usages: Usages { elapsed_s: 1.0, servers: Vec::new(), clients: Vec::new(), memory: Vec::new() },
            kb_per_socket: Some(12.0),
        }
    }

    #[test]
    fn a_step_is_degraded_by_failures_or_by_being_much_slower() {
        let before = [step(1_000, 9_000.0, 0)];
        assert!(degradation(&step(2_000, 5_000.0, 0), &before).is_none());
        assert!(degradation(&step(2_000, 4_000.0, 0), &before).is_some_and(|at| at.reason.contains("connects/s")));
        assert!(degradation(&step(2_000, 9_000.0, 2), &before).is_some_and(|at| at.reason.contains("could not be opened")));
    }

    #[test]
    fn the_advice_is_what_was_sustained_by_worker_and_the_arithmetic_from_it() {
        let steps = [step(1_000, 9_000.0, 0), step(2_000, 9_000.0, 0)];
        let advice = advice(&steps, 2_000, false, 20_000_000, 2).expect("memory is known");
        assert_eq!((advice.sockets_per_worker, advice.is_limit), (1_000, false));
        let estimate = advice.estimates[1];
        assert_eq!((estimate.sockets, estimate.workers, estimate.memory_bytes), (24_000, 24, 308_000_000));
    }
}
