//! What both programs log while things go right and wrong: nothing that is secret, and nothing that says who somebody is.

use crate::{programs::Program, support::TestApp};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Everything of ours; what the libraries beneath say at that level is theirs to answer for, and off in every profile.
const LEVELS: &str = "info,api=debug,jobs=debug,shared=debug";

/// Whatever is sent or given in these places has this in it, or is itself looked for.
const MARKED: &str = "zebra-crossing";

struct Told {
    client: Client,
    url: String,
    /// What must not be found.
    secrets: Vec<String>,
}

impl Told {
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}/api/v1{path}", self.url))
    }

    /// Sends `body`, and keeps what comes back in these fields for secrets.
    async fn send(&mut self, request: RequestBuilder, body: Value, secrets: &[&str]) -> (StatusCode, Value) {
        let answer = request.json(&body).send().await.unwrap();
        let status = answer.status();
        let body: Value = answer.json().await.unwrap_or_default();
        self.secrets.extend(secrets.iter().map(|field| body[field].as_str().unwrap_or_else(|| panic!("{field} of {body}")).to_owned()));
        (status, body)
    }
}

#[tokio::test]
async fn no_secret_no_body_and_no_address_gets_into_the_logs() {
    let app = TestApp::start().await;
    let email = format!("{MARKED}@example.org");
    let password = format!("correct {MARKED} battery");
    shared::accounts::command_line::create_admin(&app.state.accounts, &email, &password.clone().into()).await.unwrap();
    let settings = [("LOG_LEVEL", LEVELS), ("SMTP_URL", "smtp://127.0.0.1:9"), ("SMTP_FROM", "no-reply@example.org")];
    let (api, url) = Program::api(&app, &settings).await;
    let worker = Program::worker(&app, &settings).await;
    let mut told = Told { client: Client::new(), url, secrets: vec![MARKED.to_owned()] };

    let login = told.request(Method::POST, "/auth/login");
    let (_, session) = told.send(login, json!({"email": email, "password": password}), &["access_token", "refresh_token"]).await;
    let token = session["access_token"].as_str().unwrap().to_owned();
    let wrong = told.request(Method::POST, "/auth/login");
    assert_eq!(told.send(wrong, json!({"email": email, "password": format!("wrong {MARKED}")}), &[]).await.0, 401);
    let refresh = told.request(Method::POST, "/auth/refresh");
    told.send(refresh, json!({"refresh_token": session["refresh_token"]}), &["access_token", "refresh_token"]).await;
    let stranger = told.request(Method::GET, "/auth/me").bearer_auth(format!("{MARKED}.{MARKED}.{MARKED}"));
    assert_eq!(stranger.send().await.unwrap().status(), 401);
    let key = told.request(Method::POST, "/api-keys").bearer_auth(&token);
    let (status, _) = told.send(key, json!({"name": MARKED, "scopes": ["jobs:read"]}), &["key"]).await;
    assert_eq!(status, 201);
    let endpoint = told.request(Method::POST, "/endpoints").bearer_auth(&token);
    let body =
        json!({"name": MARKED, "url": format!("http://127.0.0.1:9/{MARKED}"), "headers": {"authorization": format!("Bearer {MARKED}")}});
    let (_, endpoint) = told.send(endpoint, body, &["secret"]).await;
    // A body that is none, a payload that is refused, and jobs that succeed, fail, panic and cannot be delivered.
    let garbage = told.request(Method::POST, "/jobs").bearer_auth(&token).header("content-type", "application/json");
    assert_eq!(garbage.body(format!("{{\"kind\": {MARKED}")).send().await.unwrap().status(), 400);
    let once = json!({"max_attempts": 1});
    let jobs = [
        json!({"kind": "debug.echo", "payload": {"text": MARKED}}),
        json!({"kind": "debug.fail", "payload": {"message": MARKED}, "retry": once}),
        json!({"kind": "debug.fail", "payload": [MARKED], "retry": once}),
        json!({"kind": "http.request", "payload": {"text": MARKED}, "target": {"type": "http", "endpoint_id": endpoint["id"]}, "retry": once}),
        json!({"kind": "mail.send", "payload": {"to": [email], "subject": MARKED, "text": MARKED}, "retry": once}),
    ];
    for job in jobs {
        let submit = told.request(Method::POST, "/jobs").bearer_auth(&token).header("prefer", "wait=10");
        let (status, job) = told.send(submit, job, &[]).await;
        assert!(status.is_success(), "{job}");
    }

    let deadline = Instant::now() + Duration::from_secs(20);
    while !worker.log().contains("the attempt starts") {
        assert!(Instant::now() < deadline, "the worker logs nothing of its attempts: {}", worker.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for (name, log) in [("api", api.log()), ("jobs", worker.log())] {
        for line in log.lines() {
            assert!(serde_json::from_str::<Value>(line).is_ok(), "{name}: one line is one event, not {line}");
            if let Some(secret) = told.secrets.iter().find(|secret| line.contains(*secret)) {
                panic!("{name} logs {secret}: {line}");
            }
        }
    }
    assert!(api.log().contains("request_id") && worker.log().contains("job_id"));
}
