//! The workers of docs/examples, as they are. Where python3 or curl is missing its test has nothing to run; CI has both.

use super::{QUEUE, World};
use crate::support::send;
use serde_json::{Value, json};
use shared::jobs::engine::{QueueKeys, expire};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::process::{Child, Command};

/// Settings with which a worker that died is noticed soon.
const HASTE: &[(&str, &str)] = &[("WORKER_LEASE_MS", "1500"), ("WORKER_HEARTBEAT_MS", "200"), ("RATE_LIMITS", "off")];

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples").join(name)
}

async fn has(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().await.is_ok_and(|status| status.success())
}

impl World {
    /// Runs an example with a key of its own.
    async fn run(&self, program: &str, script: &str, arguments: &[&str]) -> Child {
        let (_, key) = send(self.post("/api-keys", &json!({"name": "worker", "scopes": ["jobs:work"]}))).await;
        let url = format!("http://{}", self.app.address);
        let mut command = Command::new(program);
        command.arg(example(script)).arg(url).arg(QUEUE).args(arguments).env("MILLRACE_KEY", key["key"].as_str().unwrap());
        command.env("no_proxy", "127.0.0.1").kill_on_drop(true).spawn().unwrap()
    }

    async fn submit_many(&self, n: usize) {
        for first in (0..n).step_by(1_000) {
            let jobs: Vec<Value> = (first..n.min(first + 1_000))
                .map(|i| json!({"kind": "thumbnails.make", "queue": QUEUE, "payload": i, "retry": {"base_ms": 1, "max_ms": 1}}))
                .collect();
            assert_eq!(send(self.post("/jobs/bulk", &json!({"jobs": jobs}))).await.0, 207);
        }
    }

    /// Does what the leader of the workers does until `n` jobs have ended, and calls `on_progress` with how many have.
    async fn until_ended(&self, n: i64, mut on_progress: impl AsyncFnMut(i64)) {
        let ctx = &self.app.state.ctx;
        let keys = QueueKeys::new(&ctx.keys, &QUEUE.parse().unwrap());
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            expire::sweep(ctx, &mut ctx.redis.connection(), &keys).await.unwrap();
            let ended: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs_ended").fetch_one(&ctx.pg).await.unwrap();
            if ended >= n {
                return;
            }
            on_progress(ended).await;
            assert!(Instant::now() < deadline, "{ended} of {n} have ended");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn ended_in(&self, state: &str) -> i64 {
        let query = sqlx::query_scalar("SELECT count(*) FROM jobs_ended WHERE state = $1");
        query.bind(state).fetch_one(&self.app.state.ctx.pg).await.unwrap()
    }
}

fn terminate(child: &Child) {
    let pid = i32::try_from(child.id().expect("it runs")).expect("a pid fits");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).expect("it is ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_worker_does_every_job_though_it_is_killed_twice() {
    if !has("python3").await {
        return;
    }
    let n_jobs = 10_000;
    let world = World::with(HASTE).await;
    world.submit_many(n_jobs).await;
    let n_jobs = i64::try_from(n_jobs).unwrap();
    let mut worker = world.run("python3", "worker.py", &["100"]).await;
    let mut kills_at = vec![n_jobs * 2 / 3, n_jobs / 3];
    world
        .until_ended(n_jobs, async |ended| {
            if kills_at.last().is_some_and(|at| ended >= *at) {
                kills_at.pop();
                worker.kill().await.unwrap();
                worker = world.run("python3", "worker.py", &["100"]).await;
            }
        })
        .await;
    assert!(kills_at.is_empty(), "it was killed twice");
    assert_eq!(world.ended_in("succeeded").await, n_jobs);
    terminate(&worker);
    assert!(worker.wait().await.unwrap().success(), "it stops when it is told to");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shell_worker_runs_a_command_for_each_job() {
    if !has("curl").await {
        return;
    }
    let world = World::with(HASTE).await;
    let good = world.submit(json!({"payload": 1})).await;
    let bad = world.submit(json!({"payload": "bad", "retry": {"max_attempts": 1}})).await;
    let command = r#"case $(cat) in *'"payload":"bad"'*) echo 'no "such" file' >&2; exit 3 ;; *) echo '{"done":true}' ;; esac"#;
    let mut worker = world.run("sh", "worker.sh", &["sh", "-c", command]).await;
    world.until_ended(2, async |_| {}).await;
    assert_eq!(world.get(&format!("/jobs/{good}")).await["result"], json!({"done": true}));
    assert_eq!(world.get(&format!("/jobs/{bad}")).await["error"], json!({"code": "exit_3", "message": "no such file"}));
    let slow = world.submit(json!({"payload": 2})).await;
    world.until_ended(3, async |_| {}).await;
    assert_eq!(world.get(&format!("/jobs/{slow}")).await["state"], "succeeded");
    worker.kill().await.unwrap();
}
