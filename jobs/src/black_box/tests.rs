//! What a child writes is what its supervisor reads.

use super::*;
use crate::attempt::tests::job;

fn running(name: &str, limit: Option<Duration>) -> Running {
    let started_at = OffsetDateTime::UNIX_EPOCH + Duration::from_millis(1_234);
    Running { queue: QueueName::new(name).unwrap(), job_id: JobId::new(), attempt: 7, started_at, limit }
}

#[test]
fn a_record_reads_as_it_was_written() {
    let longest = "q".repeat(NAME_MAX);
    for (name, limit) in [("default", None), (longest.as_str(), Some(Duration::from_millis(1)))] {
        let running = running(name, limit);
        assert_eq!(decode(&encode(&running)), Some(running));
    }
    assert_eq!(decode(&[0; RECORD]), None);
    assert_eq!(decode(&[255; RECORD]), None);
    assert_eq!(decode(&[1; 10]), None);
}

#[test]
fn what_runs_is_on_record_until_it_ended() {
    let black_box = BlackBox::new().unwrap();
    let recorder = Arc::new(Recorder::open(&black_box.path()).unwrap());
    let (first, second) = (Arc::new(job()), Arc::new(job()));
    let now = OffsetDateTime::now_utc();
    let first_record = recorder.begin(&first, now, None);
    let second_record = recorder.begin(&second, now, Some(Duration::from_secs(9)));
    let ids = || black_box.running().unwrap().iter().map(|running| running.job_id).collect::<Vec<_>>();
    assert_eq!(ids(), [first.id(), second.id()]);
    drop(first_record);
    recorder.tidy(now, Duration::ZERO);
    assert_eq!(ids(), [second.id()]);
    let third = Arc::new(job());
    let _third_record = recorder.begin(&third, now, None);
    assert_eq!(ids(), [third.id(), second.id()], "the slot that fell idle is taken again");
    drop(second_record);
}

#[test]
fn a_cancel_that_is_ignored_shortens_the_limit() {
    let black_box = BlackBox::new().unwrap();
    let recorder = Arc::new(Recorder::open(&black_box.path()).unwrap());
    let job = Arc::new(job());
    let now = OffsetDateTime::now_utc();
    let _record = recorder.begin(&job, now, None);
    job.signals.ask(StopReason::Cancelled);
    recorder.tidy(now, Duration::from_secs(5));
    recorder.tidy(now + Duration::from_secs(3), Duration::from_secs(5));
    let limit = black_box.running().unwrap()[0].limit.unwrap();
    assert!(limit <= Duration::from_secs(5), "{limit:?}");
}
