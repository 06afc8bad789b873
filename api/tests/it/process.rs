//! The API as a process of its own: killed in the middle of its work, asked to stop, asked to read its settings again.

use crate::{auth::credentials, support::TestApp};
use nix::{sys::signal::Signal, unistd::Pid};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use std::{net::SocketAddr, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};

const N_JOBS: usize = 200;

/// `millrace-api serve` on the stores of `app`.
pub(crate) struct ApiProcess {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) url: String,
}

impl ApiProcess {
    async fn start(app: &TestApp) -> Self {
        Self::start_with(app, &[]).await
    }

    pub(crate) async fn start_with(app: &TestApp, overrides: &[(&str, &str)]) -> Self {
        let settings = [("API_PORT", "0"), ("API_WORKERS", "2"), ("LOG_FORMAT", "json"), ("LOG_LEVEL", "info"), ("RATE_LIMITS", "off")];
        let mut child = Command::new(env!("CARGO_BIN_EXE_millrace-api"))
            .arg("serve")
            .envs(app.stores.variables.iter().cloned())
            .envs(settings)
            .envs(overrides.iter().copied())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary was built with this test");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let listening = async {
            loop {
                let line = lines.next_line().await.expect("the log can be read").expect("the process listens before it ends");
                let event: Value = serde_json::from_str(&line).unwrap_or_default();
                if let (Some("listening"), Some(address)) = (event["message"].as_str(), event["address"].as_str()) {
                    return address.to_owned();
                }
            }
        };
        let address = timeout(Duration::from_secs(30), listening).await.expect("the process comes up");
        // Somebody has to go on reading, or the process would block on its log.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, address: address.parse().expect("it listens on an address"), url: format!("http://{address}/api/v1") }
    }

    pub(crate) async fn token(&self, client: &Client) -> String {
        let response = client.post(format!("{}/auth/login", self.url)).json(&credentials("ada@example.org")).send().await.unwrap();
        let session: Value = response.json().await.unwrap();
        session["access_token"].as_str().expect("signed in").to_owned()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().expect("the process runs")).expect("a pid fits");
        nix::sys::signal::kill(Pid::from_raw(pid), signal).expect("the process is ours");
    }

    pub(crate) async fn submit(&self, client: &Client, token: &str, idx: usize) -> reqwest::Result<Response> {
        let request = client.post(format!("{}/jobs", self.url)).bearer_auth(token).header("idempotency-key", format!("job-{idx}"));
        request.json(&json!({"kind": "debug.echo", "payload": idx, "queue": "killed"})).send().await
    }
}

/// The id of an accepted job; `None` when it was shed, or the connection broke before the answer was whole.
async fn accepted_id(answer: reqwest::Result<Response>) -> Option<String> {
    let response = answer.ok()?;
    if response.status() == 503 {
        return None;
    }
    assert_eq!(response.status(), 202);
    let job: Value = response.json().await.ok()?;
    Some(job["id"].as_str().expect("a job has an id").to_owned())
}

#[tokio::test]
async fn an_api_killed_between_accepting_and_answering_loses_and_doubles_nothing() {
    let app = TestApp::start().await;
    shared::accounts::command_line::create_admin(&app.state.accounts, "ada@example.org", &"correct horse battery".into()).await.unwrap();
    let client = Client::new();
    let mut first = ApiProcess::start(&app).await;
    let token = first.token(&client).await;
    let (answered, mut answers) = mpsc::channel(N_JOBS);
    let submits = (0..N_JOBS).map(|idx| {
        let (client, token, url, answered) = (&client, &token, &first, answered.clone());
        async move {
            let id = accepted_id(url.submit(client, token, idx).await).await;
            answered.send(()).await.unwrap();
            (idx, id)
        }
    });
    let kill = async {
        for _ in 0..N_JOBS / 10 {
            answers.recv().await.unwrap();
        }
        first.signal(Signal::SIGKILL);
    };
    let (before, ()) = futures_util::future::join(futures_util::future::join_all(submits), kill).await;
    first.child.wait().await.unwrap();
    let n_accepted = before.iter().filter(|(_, id)| id.is_some()).count();
    assert!((1..N_JOBS).contains(&n_accepted), "the kill came in the middle: {n_accepted} of {N_JOBS} were answered");

    let second = ApiProcess::start(&app).await;
    let token = second.token(&client).await;
    for (idx, id) in before {
        let again = accepted_id(second.submit(&client, &token, idx).await).await.expect("the second process lives");
        assert!(id.is_none_or(|id| id == again), "the job that was accepted is the one that is there");
    }
    let n_jobs: i64 =
        sqlx::query_scalar("SELECT count(*) FROM jobs_all WHERE queue = 'killed'").fetch_one(&app.state.ctx.pg).await.unwrap();
    assert_eq!(n_jobs, i64::try_from(N_JOBS).unwrap());
}

/// Asks until the answer satisfies, for at most 20 s.
pub(crate) async fn until(client: &Client, url: &str, token: &str, is_there: impl Fn(&Response) -> bool) {
    let asking = async {
        loop {
            if client.get(url).bearer_auth(token).send().await.is_ok_and(|response| is_there(&response)) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), asking).await.expect("it comes to pass");
}

#[tokio::test]
async fn a_stop_says_so_first_finishes_what_is_under_way_and_exits_well() {
    let app = TestApp::start().await;
    shared::accounts::command_line::create_admin(&app.state.accounts, "ada@example.org", &"correct horse battery".into()).await.unwrap();
    let client = Client::new();
    let mut process = ApiProcess::start_with(&app, &[("DRAIN_DELAY_S", "2"), ("SHUTDOWN_TIMEOUT_S", "20")]).await;
    let token = process.token(&client).await;
    // No worker runs: it would wait for longer than the process is given to stop.
    let waiting = client.post(format!("{}/jobs", process.url)).bearer_auth(&token).header("prefer", "wait=30");
    let waiting = tokio::spawn(waiting.json(&json!({"kind": "debug.echo", "queue": "nobody"})).send());
    until(&client, &format!("{}/queues/nobody", process.url), &token, |response| response.status() == 200).await;
    process.signal(Signal::SIGTERM);
    until(&client, &process.url.replace("/api/v1", "/readyz"), &token, |response| {
        response.status() == 503 && response.headers().get("connection").is_some_and(|value| value == "close")
    })
    .await;
    assert_eq!(waiting.await.unwrap().unwrap().status(), 202, "the request under way is answered");
    let status = timeout(Duration::from_secs(20), process.child.wait()).await.expect("the process ends").unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn a_hangup_brings_new_limits_in() {
    let app = TestApp::start().await;
    shared::accounts::command_line::create_admin(&app.state.accounts, "ada@example.org", &"correct horse battery".into()).await.unwrap();
    let client = Client::new();
    let file = std::env::temp_dir().join(format!("millrace-{}.toml", uuid::Uuid::new_v4()));
    std::fs::write(&file, "rate_limit_read = \"1000/h\"\n").unwrap();
    let process = ApiProcess::start_with(&app, &[("CONFIG_FILE", file.to_str().unwrap()), ("RATE_LIMITS", "on")]).await;
    let token = process.token(&client).await;
    let url = format!("{}/auth/me", process.url);
    let limit_is =
        |limit: &'static str| move |response: &Response| response.headers().get("x-ratelimit-limit").is_some_and(|value| value == limit);
    until(&client, &url, &token, limit_is("1000")).await;
    std::fs::write(&file, "rate_limit_read = \"5000/h\"\n").unwrap();
    process.signal(Signal::SIGHUP);
    until(&client, &url, &token, limit_is("5000")).await;
    std::fs::remove_file(&file).unwrap();
}
