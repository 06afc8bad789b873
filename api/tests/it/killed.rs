//! The API as a process of its own, killed in the middle of its work: what it accepted is there, and nothing is there twice.

use crate::{auth::credentials, support::TestApp};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use std::{process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};

const N_JOBS: usize = 200;

/// `millrace-api serve` on the stores of `app`.
struct ApiProcess {
    child: Child,
    url: String,
}

impl ApiProcess {
    async fn start(app: &TestApp) -> Self {
        let settings = [("API_PORT", "0"), ("API_WORKERS", "2"), ("LOG_FORMAT", "json"), ("LOG_LEVEL", "info"), ("RATE_LIMITS", "off")];
        let mut child = Command::new(env!("CARGO_BIN_EXE_millrace-api"))
            .arg("serve")
            .envs(app.stores.variables.iter().cloned())
            .envs(settings)
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
        Self { child, url: format!("http://{address}/api/v1") }
    }

    async fn token(&self, client: &Client) -> String {
        let response = client.post(format!("{}/auth/login", self.url)).json(&credentials("ada@example.org")).send().await.unwrap();
        let session: Value = response.json().await.unwrap();
        session["access_token"].as_str().expect("signed in").to_owned()
    }

    async fn submit(&self, client: &Client, token: &str, idx: usize) -> reqwest::Result<Response> {
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
    let pid = nix::unistd::Pid::from_raw(i32::try_from(first.child.id().unwrap()).unwrap());
    let kill = async {
        for _ in 0..N_JOBS / 10 {
            answers.recv().await.unwrap();
        }
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
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
