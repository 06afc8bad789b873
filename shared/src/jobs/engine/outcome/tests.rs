//! Each outcome's consequence, the limits, and the backoff's bounds.

use super::*;
use crate::{ids::JobId, jobs::engine::Nonce};
use rstest::rstest;

fn delivery(failures: i32, snoozes: i32) -> Delivery {
    Delivery {
        token: Token { job_id: JobId::new(), attempt: 7, nonce: Nonce::new() },
        standing: Standing { priority: 4, attempt: 7, failures, snoozes, returns: 0, crashes: 0 },
        retry: RetryPolicy { max_attempts: 3, base_ms: 1_000, max_ms: 5_000 },
        worker_id: "w".to_owned(),
        started_at: Some(OffsetDateTime::UNIX_EPOCH),
        record: None,
    }
}

fn concluded(failures: i32, outcome: Outcome) -> Conclusion {
    conclude(delivery(failures, 0), outcome, OffsetDateTime::UNIX_EPOCH, 1.0)
}

fn boom() -> JobError {
    job_error("boom", "it broke")
}

#[rstest]
#[case(0, 1_000)]
#[case(1, 2_000)]
fn a_failure_is_retried_after_the_backoff(#[case] failures: i32, #[case] pause_ms: i64) {
    let conclusion = concluded(failures, Outcome::Retry { error: boom(), after: None });
    let run_at = OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(pause_ms);
    assert_eq!(conclusion.next, Next::Pending { run_at });
    assert_eq!(conclusion.standing.failures, failures + 1);
    assert_eq!(conclusion.attempt_outcome, Some("failed"));
}

#[test]
fn the_last_failure_is_death() {
    let conclusion = concluded(2, Outcome::Retry { error: boom(), after: Some(Duration::from_secs(1)) });
    assert_eq!(conclusion.next, Next::Ended("dead"));
    assert_eq!(conclusion.error, Some(boom()));
}

#[rstest]
#[case(Outcome::Panic("p".into()), "panic")]
#[case(Outcome::Timeout { limit: Duration::from_secs(1) }, "timeout")]
#[case(Outcome::Lost, "lost")]
fn what_the_stack_adds_counts_as_a_failure(#[case] outcome: Outcome, #[case] name: &str) {
    let conclusion = concluded(0, outcome);
    assert_eq!(conclusion.attempt_outcome, Some(name));
    assert_eq!(conclusion.standing.failures, 1);
    assert_eq!(conclusion.error.unwrap().code, name);
}

#[rstest]
#[case(Outcome::Discard(boom()), "boom")]
#[case(Outcome::Undecodable("no".into()), "undecodable_payload")]
#[case(Outcome::ResultRejected("no".into()), "result_rejected")]
#[case(Outcome::Undeliverable, "undeliverable")]
fn some_ends_are_death_at_once(#[case] outcome: Outcome, #[case] code: &str) {
    let conclusion = concluded(0, outcome);
    assert_eq!(conclusion.next, Next::Ended("dead"));
    assert_eq!(conclusion.error.unwrap().code, code);
}

#[test]
fn a_snooze_uses_no_attempt_until_there_were_too_many() {
    let now = OffsetDateTime::UNIX_EPOCH;
    let snoozed = conclude(delivery(1, 99), Outcome::Snooze(Duration::from_secs(1)), now, 1.0);
    assert_eq!((snoozed.standing.failures, snoozed.standing.snoozes, snoozed.attempt_outcome), (1, 100, None));
    assert_eq!(snoozed.next, Next::Pending { run_at: now + Duration::from_secs(1) });
    let dead = conclude(delivery(1, 100), Outcome::Snooze(Duration::from_secs(1)), now, 1.0);
    assert_eq!(dead.next, Next::Ended("dead"));
    assert_eq!(dead.error.unwrap().code, "too_many_snoozes");
}

#[test]
fn backoff_stays_within_its_bounds() {
    let retry = RetryPolicy { max_attempts: 100, base_ms: 1_000, max_ms: 5_000 };
    for n in 1..100 {
        assert!(backoff(retry, n, 1.0) <= Duration::from_secs(5));
        assert_eq!(backoff(retry, n, 0.0), Duration::ZERO);
    }
    assert_eq!(backoff(retry, 3, 0.5), Duration::from_secs(2));
}

#[test]
fn a_crash_costs_no_failure_and_two_alone_are_death() {
    let now = OffsetDateTime::UNIX_EPOCH;
    let crashed = |crashes, company| {
        let delivery = Delivery { standing: Standing { crashes, ..delivery(1, 0).standing }, ..delivery(1, 0) };
        conclude(delivery, Outcome::Crashed { how: "signal 6".to_owned(), company }, now, 1.0)
    };
    let suspect = crashed(0, Company::Shared);
    assert_eq!((suspect.standing.crashes, suspect.standing.failures, suspect.attempt_outcome), (1, 1, Some("crashed")));
    assert_eq!(suspect.next, Next::Pending { run_at: now });
    assert_eq!(crashed(2, Company::Shared).standing.crashes, 2, "in company it is nobody's fault in particular");
    let once = crashed(1, Company::Alone);
    assert_eq!((once.standing.crashes, once.standing.failures), (2, 1));
    assert_eq!(once.next, Next::Pending { run_at: now + Duration::from_secs(1) });
    let twice = crashed(2, Company::Alone);
    assert_eq!(twice.next, Next::Ended("dead"));
    assert_eq!(twice.error.unwrap().code, "poison");
}
