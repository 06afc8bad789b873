//! What a worker says of itself: over HTTP, on the command line, and by its exit code.

use crate::world::World;
use serde_json::json;
use shared::{
    accounts::Origin,
    jobs::{JobState, queues},
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

/// An address that was free a moment ago.
pub(crate) fn free_addr() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn get(addr: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

pub(crate) async fn until(addr: SocketAddr, path: &str, part: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = get(addr, path).unwrap_or_default();
        if answer.contains(part) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{path} never said {part}: {answer}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn health_readiness_and_the_metrics_of_all_children_are_served() {
    let world = World::new().await;
    let addr = free_addr();
    let _worker = world.worker(&[("WORKER_METRICS_ADDR", &addr.to_string()), ("WORKER_CHILDREN", "2")]);
    until(addr, "/healthz", r#"{"status":"ok"}"#).await;
    until(addr, "/readyz", r#""status":"ready","children":{"up":2,"of":2}"#).await;
    let id = world.echo().await;
    world.until(id, JobState::Succeeded).await;
    let metrics = until(addr, "/metrics", r#"job_finished_total{queue="default",kind="debug.echo",outcome="done"} 1"#).await;
    assert!(metrics.contains(r#"process_open_fds{child="1"}"#), "{metrics}");
    assert!(get(addr, "/nothing").unwrap().starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn the_command_line_shows_workers_and_queues() {
    let world = World::new().await;
    let ask = |arguments: &[&str]| {
        let output = world.command().args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(ask(&["inspect", "ping"]).0, Some(1), "nobody is there");
    let _worker = world.worker(&[]);
    let id = world.sleep(60_000).await;
    world.until(id, JobState::Running).await;
    world.active(1).await;
    assert_eq!(ask(&["inspect", "ping"]).0, Some(0));
    let (_, active) = ask(&["inspect", "active"]);
    assert!(active.contains(&id.to_string()) && active.contains("debug.sleep"), "{active}");
    let (_, stats) = ask(&["inspect", "stats", "--json"]);
    assert!(stats.contains(r#""state": "running""#), "{stats}");
    let (_, queues) = ask(&["queues"]);
    let line: Vec<&str> = queues.lines().find(|line| line.starts_with("default")).unwrap().split_whitespace().collect();
    assert_eq!(line, ["default", "open", "no", "0", "0", "1"]);
    let remote = serde_json::from_value(json!({"remote": true})).unwrap();
    let name = "elsewhere".parse().unwrap();
    queues::update(&world.ctx, &world.caller, &name, &remote, &Origin::default(), |_| Ok(())).await.unwrap();
    let (_, queues) = ask(&["queues"]);
    assert!(queues.lines().any(|line| line.split_whitespace().take(3).eq(["elsewhere", "open", "yes"])), "{queues}");
    let (_, stats) = ask(&["inspect", "stats"]);
    let columns = stats.lines().map(|line| line.split_whitespace().nth(3).unwrap()).collect::<Vec<_>>();
    assert_eq!(columns, ["QUEUES", "*"], "{stats}");
    assert_eq!(ask(&["queues", "pause", "default"]), (Some(0), "default is paused\n".to_owned()));
    assert!(ask(&["queues", "--json"]).1.contains(r#""paused": true"#));
    let resumed: serde_json::Value = serde_json::from_str(&ask(&["queues", "resume", "default", "--json"]).1).unwrap();
    assert_eq!((&resumed["name"], &resumed["paused"]), (&json!("default"), &json!(false)));
    for what in ["active", "reserved", "stats", "ping"] {
        let all: serde_json::Value = serde_json::from_str(&ask(&["inspect", what, "--json"]).1).unwrap();
        assert_eq!(all[0]["active"][0]["job_id"], json!(id), "{all}");
    }
}

#[tokio::test]
async fn the_command_line_deals_with_dead_letters() {
    let world = World::new().await;
    let ask = |arguments: &[&str]| {
        let output = world.command().args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    let worker = world.worker(&[]);
    let body = json!({"kind": "debug.fail", "payload": {"message": "no luck"}, "retry": {"max_attempts": 1}});
    let id = world.submit(body).await;
    world.until(id, JobState::Dead).await;
    drop(worker);
    let (_, groups) = ask(&["dead", "list", "default", "--by-error"]);
    let line: Vec<&str> = groups.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(line, ["debug_fail", "1", &id.to_string(), "no", "luck"]);
    assert!(ask(&["dead", "list", "default"]).1.contains(&id.to_string()));
    assert_eq!(ask(&["dead", "requeue", "default"]).0, Some(2), "which?");
    assert_eq!(ask(&["dead", "requeue", "default", "--error-code", "debug_fail"]), (Some(0), "1 requeued".to_owned()));
    assert_eq!(world.job(id).await.state, JobState::Queued);
    assert_eq!(ask(&["purge", "default"]), (Some(0), "1 removed".to_owned()));
    assert_eq!(ask(&["dead", "delete", "default", "--all"]), (Some(0), "0 removed".to_owned()));
    assert_eq!(ask(&["dead", "requeue", "default", "--all", "--json"]), (Some(0), "{\n  \"requeued\": 0\n}".to_owned()));
    assert_eq!(ask(&["purge", "default", "--json"]), (Some(0), "{\n  \"removed\": 0\n}".to_owned()));
}

#[tokio::test]
async fn the_service_manager_is_told_when_the_worker_is_ready_lives_and_stops() {
    let world = World::new().await;
    let path = std::env::temp_dir().join(format!("millrace-notify-{}", std::process::id()));
    drop(std::fs::remove_file(&path));
    let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
    let worker = world.worker(&[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "300000")]);
    let told = async || {
        let mut text = [0; 64];
        let length = tokio::time::timeout(Duration::from_secs(20), socket.recv(&mut text)).await.expect("something is told").unwrap();
        String::from_utf8_lossy(&text[..length]).trim().to_owned()
    };
    let until = async |word: &str| while told().await != word {};
    until("READY=1").await;
    // What a service manager reloads with; it would end a process that does not know it.
    worker.signal(nix::sys::signal::Signal::SIGHUP);
    until("WATCHDOG=1").await;
    worker.signal(nix::sys::signal::Signal::SIGTERM);
    until("STOPPING=1").await;
    // A service manager goes on to listen: whoever tells it something waits while it does not.
    let listening = async { while !told().await.is_empty() {} };
    tokio::select! {
        in_order = worker.ended() => assert!(in_order),
        () = listening => panic!("nothing was told"),
    }
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn a_bad_configuration_is_told_in_full_with_exit_code_2() {
    let world = World::new().await;
    let mut command = world.command();
    let output = command.arg("work").env("WORKER_LEASE_MS", "1").env("WORKER_POLL_MS", "soon").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("WORKER_LEASE_MS=1") && told.contains("WORKER_POLL_MS=soon"), "{told}");
}
