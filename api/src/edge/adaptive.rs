//! The limit that follows from how long requests take. While they take about as long as in calm times it grows up to
//! the fixed limit; the longer they wait for each other, the smaller it becomes.
//!
//! Every [`WINDOW`]: limit × what they would take in calm times ÷ what they took, and a little more to find out whether more goes well.
//! Twice as long, and [`SLACK`] more, still counts as calm: requests that wait for each other share statements and writes, and more gets
//! done while they do.

use super::classes::RouteClass;
use std::time::{Duration, Instant};

/// Between two changes, unless fewer than [`SAMPLES_MIN`] requests ended in it.
const WINDOW: Duration = Duration::from_millis(100);
const SAMPLES_MIN: u32 = 20;
/// Requests may take so many times as long as in calm times.
const TIMES: f64 = 2.0;
/// And so much longer.
const SLACK: Duration = Duration::from_millis(20);
/// The limit at least, so that what is asked rarely still tells how long things take.
const LIMIT_MIN: f64 = 16.0;
/// Of the way to the new limit that is gone at once.
const STEP: f64 = 0.3;
/// Of a longer time that is taken for the calm one: an hour of it changes it by the half, since loads change and machines do.
const FORGET: f64 = 0.000_02;

/// A request that has ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) class: RouteClass,
    pub(super) took: Duration,
    /// Requests in flight when it ended, itself among them.
    pub(super) in_flight: usize,
}

#[derive(Debug)]
pub(super) struct Adaptive {
    limit: f64,
    limit_max: f64,
    /// Seconds that requests of each class take in calm times, once that is known.
    calm_s: [Option<f64>; RouteClass::ALL.len()],
    since: Option<Instant>,
    seen: [Seen; RouteClass::ALL.len()],
    in_flight_most: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    n: u32,
    total_s: f64,
}

impl Adaptive {
    pub(super) fn new(limit_max: usize) -> Self {
        let limit_max = limit_max as f64;
        Self { limit: limit_max, limit_max, calm_s: Default::default(), since: None, seen: Default::default(), in_flight_most: 0 }
    }

    /// Takes note of a request; the new limit when a window is over.
    pub(super) fn learn(&mut self, sample: Sample, now: Instant) -> Option<usize> {
        let since = *self.since.get_or_insert(now);
        let seen = &mut self.seen[sample.class as usize];
        seen.n += 1;
        seen.total_s += sample.took.as_secs_f64();
        self.in_flight_most = self.in_flight_most.max(sample.in_flight);
        let n: u32 = self.seen.iter().map(|seen| seen.n).sum();
        if now.saturating_duration_since(since) < WINDOW || n < SAMPLES_MIN {
            return None;
        }
        let limit = self.conclude();
        self.since = Some(now);
        self.seen = Default::default();
        self.in_flight_most = 0;
        Some(limit)
    }

    fn conclude(&mut self) -> usize {
        let (mut allowed_s, mut taken_s) = (0.0, 0.0);
        for (seen, calm_s) in self.seen.iter().zip(&mut self.calm_s).filter(|(seen, _)| seen.n > 0) {
            let n = f64::from(seen.n);
            let mean_s = seen.total_s / n;
            let calm_s = calm_s.insert(calm_s.map_or(mean_s, |calm_s| mean_s.min(calm_s + (mean_s - calm_s) * FORGET)));
            allowed_s += n * (*calm_s * TIMES + SLACK.as_secs_f64());
            taken_s += seen.total_s;
        }
        let ratio = (allowed_s / taken_s.max(f64::MIN_POSITIVE)).clamp(0.5, 1.0);
        let wanted = self.limit * ratio + self.limit.sqrt();
        // What is not made use of says nothing of what more would do.
        let is_used = self.in_flight_most as f64 >= self.limit / 2.0;
        if wanted < self.limit || is_used {
            self.limit = (self.limit + (wanted - self.limit) * STEP).clamp(LIMIT_MIN.min(self.limit_max), self.limit_max);
        }
        self.limit as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that does `per_s` a second, each in `alone` at least, under as many requests as it takes.
    fn settle(adaptive: &mut Adaptive, per_s: f64, alone: Duration, offered: usize, now: &mut Instant) -> usize {
        let mut limit = adaptive.limit as usize;
        for _ in 0..400 {
            let in_flight = limit.min(offered);
            let took = alone.max(Duration::from_secs_f64(in_flight as f64 / per_s));
            for _ in 0..SAMPLES_MIN {
                *now += WINDOW / SAMPLES_MIN + Duration::from_micros(1);
                let sample = Sample { class: RouteClass::Read, took, in_flight };
                limit = adaptive.learn(sample, *now).unwrap_or(limit);
            }
        }
        limit
    }

    #[test]
    fn it_settles_where_requests_wait_little_and_grows_again_when_the_server_can_do_more() {
        let (mut adaptive, mut now, alone) = (Adaptive::new(1_000), Instant::now(), Duration::from_millis(1));
        assert_eq!(settle(&mut adaptive, 10_000.0, alone, 5, &mut now), 1_000, "few at a time leave it as it is");
        let busy = settle(&mut adaptive, 10_000.0, alone, 5_000, &mut now);
        assert!((200..300).contains(&busy), "{busy}: 22 ms of 10,000 a second are 220");
        let faster = settle(&mut adaptive, 30_000.0, alone, 5_000, &mut now);
        assert!(faster > 500, "{faster}");
    }

    #[test]
    fn it_never_falls_below_its_least_nor_rises_above_the_fixed_limit() {
        let (mut adaptive, mut now) = (Adaptive::new(64), Instant::now());
        settle(&mut adaptive, 10_000.0, Duration::from_millis(1), 1, &mut now);
        assert_eq!(settle(&mut adaptive, 10.0, Duration::from_millis(1), 500, &mut now), LIMIT_MIN as usize);
        assert_eq!(settle(&mut adaptive, 1e9, Duration::from_micros(1), 500, &mut now), 64);
    }
}
