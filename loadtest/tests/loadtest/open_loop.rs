//! The open loop: what is due is accounted for, and a stall is felt by all it holds up.

use std::sync::mpsc;
use std::time::Duration;

use loadtest::http::{Figures, Mode};

use crate::measure;
use crate::stub::{Reply, Stub};

/// Everything that was due was answered, failed, or was never sent.
fn assert_all_accounted_for(figures: &Figures) {
    let schedule = figures.schedule.unwrap();
    let others = figures.errors.total - figures.errors.not_2xx;
    assert_eq!(schedule.offered, figures.requests + others + schedule.unsent);
}

#[test]
fn a_server_that_keeps_up_gets_the_whole_schedule() {
    let stub = Stub::start(|_| Reply::ok());
    let report = measure(&stub, "-c 8 -t 2 --rate 200 -d 500ms").unwrap();
    let row = &report.rows[0];
    assert_eq!((row.mode, row.rate_per_s), (Mode::Open, Some(200.0)));
    let schedule = row.median.schedule.unwrap();
    assert!((99..=101).contains(&schedule.offered), "{schedule:?}");
    assert_eq!(row.median.requests, schedule.offered);
    assert_all_accounted_for(&row.median);
}

#[test]
fn a_stall_is_felt_by_every_request_that_it_held_up() {
    let (_held, release) = mpsc::channel::<()>();
    let release = std::sync::Mutex::new(release);
    let stub = Stub::start(move |request| {
        if request.number == 20 {
            // The stall: nothing is ever sent, so this waits out its time.
            let _ = release.lock().unwrap().recv_timeout(Duration::from_millis(200));
        }
        Reply::ok()
    });
    let report = measure(&stub, "-c 1 --rate 1000 -d 400ms").unwrap();
    let figures = &report.rows[0].median;
    let schedule = figures.schedule.unwrap();
    assert_all_accounted_for(figures);
    // One request was served slowly; those due meanwhile were sent late, and their latency says so.
    assert!(schedule.late >= 100, "{schedule:?}");
    let latency = figures.latency_ms.unwrap();
    let service_time = figures.service_time_ms.unwrap();
    assert!(latency.mean > service_time.mean, "{latency:?} {service_time:?}");
}

#[test]
fn what_cannot_be_sent_is_reported_and_not_queued_without_bound() {
    let stub = Stub::start(|_| Reply::Nothing);
    let options = "-c 2 --rate 500 -d 300ms --max-waiting 10 --timeout 600ms";
    let report = measure(&stub, options).unwrap();
    let figures = &report.rows[0].median;
    let schedule = figures.schedule.unwrap();
    assert_all_accounted_for(figures);
    assert_eq!(figures.requests, 0);
    assert!(figures.errors.timeouts <= 2, "{:?}", figures.errors);
    assert!(schedule.unsent >= schedule.offered - 2, "{schedule:?}");
    assert!(figures.latency_ms.is_none());
}

#[test]
fn multiples_of_the_peak_follow_a_closed_loop() {
    let stub = Stub::start(|_| Reply::ok());
    let report = measure(&stub, "-c 2 --rate-ladder 0.1x,50").unwrap();
    let modes: Vec<Mode> = report.rows.iter().map(|row| row.mode).collect();
    assert_eq!(modes, [Mode::Closed, Mode::Open, Mode::Open]);
    let peak = report.rows[0].median.per_second;
    assert_eq!(report.rows[1].rate_per_s, Some(peak * 0.1));
    assert_eq!(report.rows[2].rate_per_s, Some(50.0));
}
