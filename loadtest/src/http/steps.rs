//! The rows a command line asks for: every number of connections, in the closed loop or at every
//! rate of the ladder.

use std::time::Duration;

use super::args::{HttpArgs, RateStep};
use crate::error::Error;

/// The load of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Step {
    pub(super) connections: u32,
    /// None is the closed loop.
    pub(super) rate: Option<RateStep>,
}

/// All rows in the order they are measured: a closed loop goes before the multiples of its peak.
pub(super) fn steps(args: &HttpArgs) -> Vec<Step> {
    let connections = match args.ladder.is_empty() {
        true => vec![args.connections],
        false => args.ladder.clone(),
    };
    let needs_peak = |rate: &RateStep| match rate {
        RateStep::TimesPeak(_) => true,
        RateStep::PerSecond(_) => false,
    };
    let mut rates: Vec<Option<RateStep>> = Vec::new();
    if args.rate_ladder.iter().any(needs_peak) {
        rates.push(None);
    }
    rates.extend(args.rate_ladder.iter().copied().map(Some));
    if rates.is_empty() {
        rates.push(args.rate.map(RateStep::PerSecond));
    }
    let step = |connections| rates.iter().map(move |rate| Step { connections, rate: *rate });
    connections.into_iter().flat_map(step).collect()
}

/// The rate of `step` in requests per second, now that the closed loop's peak is known.
pub(super) fn rate_per_s(step: Step, peak_per_s: Option<f64>) -> Result<Option<f64>, Error> {
    match (step.rate, peak_per_s) {
        (None, _) => Ok(None),
        (Some(RateStep::PerSecond(rate)), _) => Ok(Some(rate)),
        (Some(RateStep::TimesPeak(factor)), Some(peak)) if peak > 0.0 => Ok(Some(factor * peak)),
        (Some(RateStep::TimesPeak(_)), _) => {
            Err(Error::failed("the closed loop got no 2xx response: there is no peak to take multiples of"))
        }
    }
}

/// Time that one run takes, not counting connecting and stragglers.
pub(super) fn run_time(args: &HttpArgs) -> Duration {
    args.warmup + args.duration
}

/// Runs per row.
pub(super) fn runs_per_step(args: &HttpArgs) -> u32 {
    args.repeat * if args.reference_url.is_some() { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps_of(line: &str) -> Vec<Step> {
        steps(&HttpArgs::typed(line))
    }

    fn step(connections: u32, rate: Option<RateStep>) -> Step {
        Step { connections, rate }
    }

    #[test]
    fn a_ladder_is_a_row_per_number_of_connections() {
        let expected = [step(100, None), step(1_000, None)];
        assert_eq!(steps_of("x --ladder 100,1000"), expected);
        assert_eq!(steps_of("x"), [step(100, None)]);
    }

    #[test]
    fn multiples_of_the_peak_come_after_a_closed_loop() {
        let half = Some(RateStep::TimesPeak(0.5));
        let fixed = Some(RateStep::PerSecond(700.0));
        let expected = [step(8, None), step(8, half), step(8, fixed)];
        assert_eq!(steps_of("x -c 8 --rate-ladder 0.5x,700"), expected);
        assert_eq!(steps_of("x -c 8 --rate-ladder 700"), [step(8, fixed)]);
        assert_eq!(rate_per_s(step(8, half), Some(300.0)).ok(), Some(Some(150.0)));
        assert!(rate_per_s(step(8, half), None).is_err());
    }
}
