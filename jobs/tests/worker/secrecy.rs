//! What a job carries is its owner's: it stands in no log of the worker that runs it, nor of the worker's children, whatever
//! becomes of it and however much they log.

use crate::world::World;
use serde_json::json;
use shared::jobs::JobState;
use std::fs;

#[tokio::test]
async fn what_a_job_carries_is_in_no_log_of_its_worker() {
    let world = World::new().await;
    let path = std::env::temp_dir().join(format!("millrace-worker-log-{}", uuid::Uuid::new_v4().simple()));
    let all = [
        ("LOG_LEVEL", "debug,jobs=trace,shared=trace,apalis=trace,apalis_core=trace"),
        ("LOG_FORMAT", "json"),
        ("SMTP_FROM", "a@example.org"),
    ];
    let worker = world.talkative_worker(&all, fs::File::create(&path).unwrap());
    let retry = json!({"max_attempts": 1});
    let echo = world.submit(json!({"kind": "debug.echo", "payload": {"password": "hunter2-the-payload"}, "tags": ["t"]})).await;
    let broken = world.submit(json!({"kind": "debug.sleep", "payload": "hunter2-no-such-payload", "retry": retry})).await;
    let failed = world.submit(json!({"kind": "debug.fail", "payload": {"message": "hunter2-in-an-error"}, "retry": retry})).await;
    let target = json!({"type": "http", "url": "http://127.0.0.1:1/hunter2-in-a-path?key=hunter2-in-a-query"});
    let sent = world.submit(json!({"kind": "http.request", "payload": "hunter2-to-be-sent", "target": target, "retry": retry})).await;
    world.until(echo, JobState::Succeeded).await;
    for id in [broken, failed, sent] {
        world.until(id, JobState::Dead).await;
    }
    drop(worker);
    let log = fs::read_to_string(&path).unwrap();
    drop(fs::remove_file(&path));
    assert!(log.contains(&echo.to_string()) && log.contains(&sent.to_string()), "jobs are told of by their ids: {log}");
    for line in log.lines() {
        assert!(!line.contains("hunter2"), "{line}");
    }
}
