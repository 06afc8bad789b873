//! Counts and latencies of a run: one recorder per thread while it runs, added up afterwards.

use std::collections::BTreeMap;
use std::time::Instant;

use hdrhistogram::Histogram;

use super::plan::Window;
use crate::client::Failure;

const LOWEST_NS: u64 = 1_000;
/// Longer than any run and timeout; a longer latency is recorded as this.
const HIGHEST_NS: u64 = 1_000_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;
/// A request sent this long after it was due counts as late.
const LATE_AFTER_MS: u128 = 1;

/// A histogram of nanoseconds with three significant digits.
pub(crate) fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, SIGNIFICANT_DIGITS).expect("the bounds are constants in order")
}

/// When a request was due and when it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Departure {
    pub(crate) intended: Instant,
    pub(crate) sent: Instant,
}

/// What happened to the requests that were due in the measured time.
#[derive(Debug)]
pub(crate) struct Recorder {
    window: Window,
    /// Requests begun, answered or not.
    pub(crate) started: u64,
    /// Responses by status.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// 2xx responses that came while the measured time ran: the throughput.
    pub(crate) ok_in_window: u64,
    pub(crate) timeouts: u64,
    pub(crate) closed: u64,
    pub(crate) malformed: u64,
    pub(crate) connect_failures: u64,
    pub(crate) reconnects: u64,
    /// Requests sent more than a millisecond after they were due.
    pub(crate) late: u64,
    /// From the intended time of sending to the end of a 2xx response.
    pub(crate) latency: Histogram<u64>,
    /// The same for every other response, so that quick refusals do not flatter the first.
    pub(crate) refusal_latency: Histogram<u64>,
    /// From the actual time of sending, 2xx only: how fast the server was once asked.
    pub(crate) service_time: Histogram<u64>,
    /// The jobs that 2xx answers named, those of the warm-up included; empty unless the plan harvests them.
    pub(crate) job_ids: Vec<u128>,
    /// Those of them that were named while the measured time ran.
    pub(crate) job_ids_in_window: u64,
    /// Points that 207 answers accepted, those of the warm-up included; 0 unless the plan harvests them.
    pub(crate) points: u64,
    /// Requests sent, in the warm-up too, of which nobody can tell whether the server acted on them: no answer, or 5xx.
    pub(crate) in_doubt: u64,
    /// When the last 2xx answer came.
    pub(crate) last_ok_at: Option<Instant>,
    /// The count of the usual status, kept out of the map for speed.
    last_status: (u16, u64),
}

impl Recorder {
    pub(crate) fn new(window: Window) -> Self {
        Self {
            window,
            started: 0,
            statuses: BTreeMap::new(),
            ok_in_window: 0,
            timeouts: 0,
            closed: 0,
            malformed: 0,
            connect_failures: 0,
            reconnects: 0,
            late: 0,
            latency: new_histogram(),
            refusal_latency: new_histogram(),
            service_time: new_histogram(),
            job_ids: Vec::new(),
            job_ids_in_window: 0,
            points: 0,
            in_doubt: 0,
            last_ok_at: None,
            last_status: (200, 0),
        }
    }

    pub(crate) fn response(&mut self, status: u16, departure: Departure, at: Instant) {
        let is_ok = (200..300).contains(&status);
        self.in_doubt += u64::from(status >= 500);
        if is_ok {
            self.last_ok_at = Some(at);
        }
        if is_ok && at >= self.window.start && at < self.window.end {
            self.ok_in_window += 1;
        }
        if !self.begin(departure) {
            return;
        }
        self.count_status(status);
        let latency_ns = nanos_between(departure.intended, at);
        if is_ok {
            self.latency.saturating_record(latency_ns);
            let service_ns = nanos_between(departure.sent, at);
            self.service_time.saturating_record(service_ns);
        } else {
            self.refusal_latency.saturating_record(latency_ns);
        }
    }

    /// Keeps the jobs that a 2xx answer named.
    pub(crate) fn job_ids(&mut self, status: u16, named: &[u128], at: Instant) {
        if !(200..300).contains(&status) {
            return;
        }
        if at >= self.window.start && at < self.window.end {
            self.job_ids_in_window += named.len() as u64;
        }
        self.job_ids.extend_from_slice(named);
    }

    /// Keeps the job that a 202 answer named, and counts the points that a 207 answer accepted.
    pub(crate) fn accepted(&mut self, status: u16, named: &[u128], n_points: u64) {
        match status {
            202 => self.job_ids.extend(named.first()),
            207 => self.points += n_points,
            _ => {}
        }
    }

    pub(crate) fn failure(&mut self, failure: &Failure, departure: Departure) {
        self.in_doubt += u64::from(!matches!(failure, Failure::Connect(_)));
        if !self.begin(departure) {
            return;
        }
        match failure {
            Failure::Connect(_) => self.connect_failures += 1,
            Failure::Timeout => self.timeouts += 1,
            Failure::Closed(_) => self.closed += 1,
            Failure::Malformed(_) => self.malformed += 1,
        }
    }

    /// Adds what another thread of the same run recorded.
    pub(crate) fn absorb(&mut self, mut other: Recorder) {
        other.finish();
        self.finish();
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.started += other.started;
        self.ok_in_window += other.ok_in_window;
        self.timeouts += other.timeouts;
        self.closed += other.closed;
        self.malformed += other.malformed;
        self.connect_failures += other.connect_failures;
        self.reconnects += other.reconnects;
        self.late += other.late;
        self.job_ids.append(&mut other.job_ids);
        self.job_ids_in_window += other.job_ids_in_window;
        self.points += other.points;
        self.in_doubt += other.in_doubt;
        self.last_ok_at = self.last_ok_at.max(other.last_ok_at);
        let pairs = [
            (&mut self.latency, other.latency),
            (&mut self.refusal_latency, other.refusal_latency),
            (&mut self.service_time, other.service_time),
        ];
        for (mine, theirs) in pairs {
            mine.add(theirs).expect("all histograms have the same bounds");
        }
    }

    /// Counts a request that was due in the measured time; false for the others.
    fn begin(&mut self, departure: Departure) -> bool {
        let intended = departure.intended;
        if intended < self.window.start || intended >= self.window.end {
            return false;
        }
        self.started += 1;
        let delay = departure.sent.saturating_duration_since(intended);
        self.late += u64::from(delay.as_millis() >= LATE_AFTER_MS);
        true
    }

    fn count_status(&mut self, status: u16) {
        if self.last_status.0 != status {
            self.finish();
            self.last_status.0 = status;
        }
        self.last_status.1 += 1;
    }

    /// Moves the count of the usual status into the map.
    fn finish(&mut self) {
        let (status, count) = self.last_status;
        if count > 0 {
            *self.statuses.entry(status).or_default() += count;
        }
        self.last_status.1 = 0;
    }
}

fn nanos_between(from: Instant, to: Instant) -> u64 {
    let elapsed = to.saturating_duration_since(from);
    u64::try_from(elapsed.as_nanos()).unwrap_or(HIGHEST_NS)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn recorder(launch: Instant) -> Recorder {
        Recorder::new(Window { launch, start: launch + Duration::from_secs(1), end: launch + Duration::from_secs(11) })
    }

    fn departure(launch: Instant, intended_ms: u64, sent_ms: u64) -> Departure {
        Departure { intended: launch + Duration::from_millis(intended_ms), sent: launch + Duration::from_millis(sent_ms) }
    }

    #[test]
    fn latency_counts_from_the_intended_time_and_service_time_from_the_sending() {
        let launch = Instant::now();
        let mut recorder = recorder(launch);
        let at = launch + Duration::from_millis(3_000);
        recorder.response(200, departure(launch, 2_000, 2_900), at);
        assert_eq!(recorder.latency.max() / 10_000_000, 100);
        assert_eq!(recorder.service_time.max() / 10_000_000, 10);
        assert_eq!((recorder.started, recorder.late), (1, 1));
    }

    #[test]
    fn warm_up_and_what_is_due_after_the_end_are_not_measured() {
        let launch = Instant::now();
        let mut recorder = recorder(launch);
        for intended_ms in [0, 999, 11_000] {
            let at = launch + Duration::from_millis(intended_ms + 5);
            recorder.response(200, departure(launch, intended_ms, intended_ms), at);
        }
        assert_eq!((recorder.started, recorder.latency.len()), (0, 0));
        assert_eq!(recorder.ok_in_window, 1, "the one answered in the window is throughput");
    }

    #[test]
    fn refusals_are_counted_by_status_and_kept_out_of_the_latency() {
        let launch = Instant::now();
        let mut all = recorder(launch);
        let mut other = recorder(launch);
        let at = launch + Duration::from_millis(2_001);
        for status in [200, 503, 503, 200, 429] {
            all.response(status, departure(launch, 2_000, 2_000), at);
            other.response(status, departure(launch, 2_000, 2_000), at);
        }
        other.failure(&Failure::Timeout, departure(launch, 2_000, 2_000));
        all.absorb(other);
        assert_eq!(all.statuses, BTreeMap::from([(200, 4), (429, 2), (503, 4)]));
        assert_eq!((all.latency.len(), all.refusal_latency.len()), (4, 6));
        assert_eq!((all.started, all.timeouts), (11, 1));
    }
}
