//! The schedule alone, without sockets and without waiting.

use proptest::prelude::*;

use super::*;

fn schedule(rate_per_s: f64, max_waiting: u64, share: Share) -> (Schedule, Window) {
    let launch = Instant::now();
    let window = Window { launch, start: launch + Duration::from_secs(1), end: launch + Duration::from_secs(3) };
    (Schedule::new(rate_per_s, max_waiting, window, share), window)
}

fn alone() -> Share {
    Share { thread_idx: 0, threads: 1, connections: 4 }
}

fn due_offsets_ms(schedule: &Schedule, window: Window, now_ms: u64) -> Vec<u128> {
    let now = window.launch + Duration::from_millis(now_ms);
    std::iter::from_fn(|| schedule.take(now)).map(|departure| (departure.intended - window.launch).as_millis()).collect()
}

#[test]
fn requests_keep_their_intended_times_when_nobody_was_free() {
    let (schedule, window) = schedule(100.0, 1_000, alone());
    assert_eq!(due_offsets_ms(&schedule, window, 35), [0, 10, 20, 30]);
    assert_eq!(due_offsets_ms(&schedule, window, 36), [0u128; 0]);
    assert_eq!(due_offsets_ms(&schedule, window, 65), [40, 50, 60]);
}

#[test]
fn beyond_the_bound_the_oldest_are_given_up() {
    let (schedule, window) = schedule(100.0, 2, alone());
    assert_eq!(due_offsets_ms(&schedule, window, 95), [80, 90]);
}

#[test]
fn warm_up_and_measured_requests_are_counted_apart() {
    let (schedule, _) = schedule(100.0, 2, alone());
    assert_eq!((schedule.n_warmup, schedule.n_total), (100, 300));
}

proptest! {
    #[test]
    fn threads_together_offer_the_whole_rate(rate in 1..50_000u32, threads in 1..9u32) {
        let total: u64 = (0..threads)
            .map(|thread_idx| Share { thread_idx, threads, connections: 1 })
            .map(|share| schedule(f64::from(rate), 10, share).0)
            .map(|schedule| schedule.n_total - schedule.n_warmup)
            .sum();
        let expected = u64::from(rate) * 2;
        prop_assert!(total.abs_diff(expected) <= u64::from(threads), "{total} for {expected}");
    }

    #[test]
    fn a_request_is_counted_due_exactly_from_its_time_on(
        rate in 0.5..200_000.0f64,
        request_idx in 0..1_000_000u64,
    ) {
        let (schedule, _) = schedule(rate, 10, alone());
        let at = schedule.due_at(request_idx);
        prop_assert_eq!(schedule.n_due_before(at), request_idx);
        let after = at + Duration::from_nanos(1);
        prop_assert_eq!(schedule.n_due_before(after), request_idx + 1);
    }
}
