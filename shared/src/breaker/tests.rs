//! When a breaker opens, when it closes, and what is no reason to.

use super::*;
use crate::Code;
use std::sync::atomic::{AtomicBool, AtomicU32};

/// A server that answers, or does not, as told; and how often it was probed.
#[derive(Debug, Default)]
struct Server {
    is_away: AtomicBool,
    n_probes: AtomicU32,
}

fn watched() -> (Breaker, Arc<Server>) {
    let (breaker, server) = (Breaker::new("test"), Arc::new(Server::default()));
    let probed = Arc::clone(&server);
    tokio::spawn(breaker.clone().watch(Duration::from_millis(200), move || {
        let server = Arc::clone(&probed);
        async move {
            server.n_probes.fetch_add(1, Ordering::SeqCst);
            let is_away = server.is_away.load(Ordering::SeqCst);
            if is_away { Err(Error::new(Code::DatabaseUnavailable, "away").into()) } else { Ok(()) }
        }
    }));
    (breaker, server)
}

async fn until_closed(breaker: &Breaker) {
    while breaker.is_open() {
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn it_opens_after_failures_in_a_row_and_closes_when_a_probe_succeeds() {
    let (breaker, server) = watched();
    assert_eq!(breaker.finding(Duration::from_secs(1)).await.and_then(|finding| finding.failure), None);
    assert_eq!(breaker.state(), State::Closed);
    server.is_away.store(true, Ordering::SeqCst);
    breaker.opened().await;
    assert!(breaker.is_open());
    assert_eq!(breaker.finding(Duration::from_secs(1)).await.and_then(|finding| finding.failure).as_deref(), Some("away"));
    server.is_away.store(false, Ordering::SeqCst);
    until_closed(&breaker).await;
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test]
async fn one_failure_opens_nothing() {
    let (breaker, server) = watched();
    breaker.finding(Duration::from_secs(1)).await;
    server.is_away.store(true, Ordering::SeqCst);
    while server.n_probes.load(Ordering::SeqCst) < 2 {
        sleep(Duration::from_millis(1)).await;
    }
    server.is_away.store(false, Ordering::SeqCst);
    while server.n_probes.load(Ordering::SeqCst) < 4 {
        assert!(!breaker.is_open());
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn who_finds_the_server_away_brings_the_probe_forward_and_a_crowd_does_not_multiply_it() {
    let (breaker, server) = watched();
    breaker.finding(Duration::from_secs(1)).await;
    let begun = Instant::now();
    while server.n_probes.load(Ordering::SeqCst) < 4 {
        breaker.doubt();
        sleep(Duration::from_millis(1)).await;
    }
    // However many complain, and however slow the machine is, there is a pause between two.
    assert!(begun.elapsed() >= DOUBT_EVERY * 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_server_that_refuses_and_never_answered_is_away_at_once_and_one_that_is_silent_is_not_yet() {
    let (refusing, silent) = (Breaker::new("test"), Breaker::new("test"));
    let refuse = || async { Err(Error::new(Code::DatabaseUnavailable, "away").into()) };
    tokio::spawn(refusing.clone().watch(Duration::from_millis(200), refuse));
    tokio::spawn(silent.clone().watch(Duration::from_millis(200), std::future::pending::<Result<(), Miss>>));
    refusing.finding(Duration::from_secs(5)).await;
    assert!(refusing.is_open() && !refusing.is_well());
    let finding = silent.finding(Duration::from_secs(5)).await.and_then(|finding| finding.failure);
    assert_eq!((finding.as_deref(), silent.is_well()), (Some("no answer within 200 ms"), false));
    silent.opened().await;
}

fn missed(miss: fn(Error) -> Miss) -> Result<(), Miss> {
    Err(miss(Error::new(Code::DatabaseUnavailable, "away")))
}

#[rstest::rstest]
#[case::silent(Miss::Silence)]
#[case::refusing(Miss::Refusal)]
#[tokio::test]
async fn a_server_that_answers_others_is_slow_and_not_away(#[case] miss: fn(Error) -> Miss) {
    let (breaker, server) = (Breaker::new("test"), Arc::new(Server::default()));
    let probed = Arc::clone(&server);
    // The first finds it well: one that never answered and refuses is away.
    tokio::spawn(breaker.clone().watch(Duration::from_millis(100), move || {
        let n_before = probed.n_probes.fetch_add(1, Ordering::SeqCst);
        let is_well = n_before == 0;
        async move {
            // Longer than the test needs to say that somebody got an answer.
            sleep(Duration::from_millis(50)).await;
            if is_well { Ok(()) } else { missed(miss) }
        }
    }));
    while server.n_probes.load(Ordering::SeqCst) < FAILURES_MAX * 2 {
        breaker.answered();
        sleep(Duration::from_millis(1)).await;
        assert!(!breaker.is_open());
    }
}

#[tokio::test]
async fn a_server_that_has_no_room_for_the_probe_is_there_and_one_that_was_away_is_not_back_by_that() {
    let (breaker, n_probes) = (Breaker::new("test"), Arc::new(AtomicU32::new(0)));
    let probed = Arc::clone(&n_probes);
    tokio::spawn(breaker.clone().watch(Duration::from_millis(100), move || {
        let n_before = probed.fetch_add(1, Ordering::SeqCst);
        async move {
            match n_before {
                0..=1 => missed(Miss::Busy),
                2 => missed(Miss::Refusal),
                _ => missed(Miss::Busy),
            }
        }
    }));
    while n_probes.load(Ordering::SeqCst) < 3 {
        breaker.doubt();
        assert!(!breaker.is_open());
        sleep(Duration::from_millis(1)).await;
    }
    breaker.opened().await;
    while n_probes.load(Ordering::SeqCst) < 6 {
        sleep(Duration::from_millis(1)).await;
    }
    assert!(breaker.is_open());
}

#[test]
fn failures_far_apart_do_not_count_together() {
    let (mut failures, now) = (Failures::default(), Instant::now());
    assert_eq!(failures.one_more(now), 1);
    assert_eq!(failures.one_more(now + WINDOW * 2), 1);
    assert_eq!(failures.one_more(now + WINDOW * 2 + WINDOW / 2), 2);
}
