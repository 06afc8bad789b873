//! A load with a progress bar, and what server and generator took for it.

use std::sync::Arc;

use super::figures::Usages;
use crate::error::Error;
use crate::generator::{self, Load, Plan, Progress};
use crate::process::Watch;
use crate::progress::ProgressDisplay;

/// One run, with the CPU and memory of server and generator over its measured time.
pub(crate) fn observed(plan: &Arc<Plan>, label: &str, pids: &[u32], progress: &ProgressDisplay) -> Result<(Load, Usages), Error> {
    let mut watches = Some((Watch::new(pids), Watch::own()));
    let mut usages = Usages { server: None, generator: None };
    let mut n_before = 0;
    let mut observe = |seen: Progress| match (seen, &mut watches) {
        (Progress::WarmingUp, _) => progress.phase(label, "warming up"),
        (Progress::Measuring { answered }, Some((server, generator))) => {
            n_before = answered;
            server.begin();
            generator.begin();
        }
        (Progress::Running { elapsed, answered }, Some((server, _))) => {
            server.sample();
            let per_second = (answered - n_before) as f64 / elapsed.as_secs_f64().max(0.001);
            progress.update(label, plan.warmup + elapsed, per_second);
        }
        (Progress::Ended, watches) => {
            let ended = watches.take();
            (usages.server, usages.generator) = ended.map_or((None, None), |(server, generator)| (server.finish(), generator.finish()));
        }
        (Progress::Measuring { .. } | Progress::Running { .. }, None) => {}
    };
    let load = generator::run(plan, &mut observe).map_err(Error::failed)?;
    Ok((load, usages))
}
