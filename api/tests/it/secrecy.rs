//! What is secret is written nowhere but where it belongs: not into a process's log, however much it logs, not into its metrics, and
//! not into the audit log.

use crate::{
    auth::{register_admin, token},
    files::upload,
    support::{TestApp, send},
};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use std::{fs, path::PathBuf, process::Stdio, time::Duration};
use tokio::process::{Child, Command};

/// Each in a place of its own, so that whichever shows up says where it leaked.
const PASSWORD: &str = "hunter2-the-password";
const NEXT_PASSWORD: &str = "hunter2-the-next-password";
const EMAIL: &str = "secret-address@example.org";
const PAYLOAD: &str = "hunter2-the-payload";
const PUBLICATION: &str = "hunter2-the-publication";
const CONTENT: &str = "hunter2-the-content-of-a-file";
const HEADER: &str = "hunter2-the-header-of-an-endpoint";
const IN_A_QUERY: &str = "hunter2-in-a-query";
const HMAC_SECRET: &str = "hunter2-the-secret-of-channel-tokens-0123456789";
const SERVER_KEY: &str = "hunter2-the-key-of-another-backend";
const AI_KEY: &str = "hunter2-the-key-of-a-model";

/// `millrace-api serve` with all the log there is, in a file.
struct Talkative {
    _child: Child,
    log: PathBuf,
    url: String,
    client: Client,
}

impl Talkative {
    async fn start(app: &TestApp) -> Self {
        let log = std::env::temp_dir().join(format!("millrace-log-{}", uuid::Uuid::new_v4().simple()));
        let secrets = [("CHANNEL_TOKEN_HMAC_SECRET", HMAC_SECRET), ("CHANNEL_API_KEY", SERVER_KEY), ("AI_API_KEY", AI_KEY)];
        let settings = [
            ("API_PORT", "0"),
            ("API_WORKERS", "1"),
            ("LOG_FORMAT", "json"),
            ("LOG_LEVEL", "debug,api=trace,shared=trace,actix_web=trace,tracing_actix_web=trace"),
            ("RATE_LIMITS", "off"),
            ("OUTBOUND_ALLOW", "127.0.0.0/8"),
            ("AI_BASE_URL", "http://127.0.0.1:1/v1"),
            ("AI_MODEL", "any"),
        ];
        let child = Command::new(env!("CARGO_BIN_EXE_millrace-api"))
            .arg("serve")
            .envs(app.stores.variables.iter().cloned())
            .envs(settings.into_iter().chain(secrets))
            .stderr(Stdio::from(fs::File::create(&log).unwrap()))
            .kill_on_drop(true)
            .spawn()
            .expect("the binary was built with this test");
        let mut process = Self { _child: child, log, url: String::new(), client: Client::new() };
        process.url = process.until_listening().await;
        process
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    async fn until_listening(&self) -> String {
        let listening = async {
            loop {
                let log = self.log();
                let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
                if let Some(event) = events.into_iter().find(|event| event["message"] == "listening") {
                    return format!("http://{}", event["address"].as_str().unwrap());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), listening).await.expect("the process comes up")
    }

    fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.client.post(format!("{}/api/v1{path}", self.url)).json(body)
    }

    async fn told(&self, request: RequestBuilder) -> Value {
        let response = request.send().await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert!(status.is_success(), "{status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }
}

impl Drop for Talkative {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.log));
    }
}

/// One of each request that carries a secret; returns those that were made on the way.
async fn talk(process: &Talkative) -> Vec<String> {
    let credentials = json!({"email": EMAIL, "password": PASSWORD});
    let session = process.told(process.post("/auth/register", &credentials)).await;
    let wrong = process.post("/auth/login", &json!({"email": EMAIL, "password": "hunter2-the-wrong-password"}));
    assert_eq!(wrong.send().await.unwrap().status(), 401);
    let login = process.told(process.post("/auth/login", &credentials)).await;
    let fresh = process.told(process.post("/auth/refresh", &json!({"refresh_token": login["refresh_token"]}))).await;
    let signed_in = |request: RequestBuilder| request.bearer_auth(token(&session));
    let key = process.told(signed_in(process.post("/api-keys", &json!({"name": "k", "scopes": ["jobs:read"]})))).await;
    let by_key = process.client.get(format!("{}/api/v1/jobs", process.url)).header("x-api-key", key["key"].as_str().unwrap());
    process.told(by_key).await;
    process.told(signed_in(process.post("/jobs", &json!({"kind": "debug.echo", "payload": PAYLOAD})))).await;
    let broken = signed_in(process.post("/jobs", &json!({"kind": "debug.echo", "payload": PAYLOAD, "priority": PAYLOAD})));
    assert_eq!(broken.send().await.unwrap().status(), 400);
    process.told(signed_in(process.post("/channels/chat:1/publications", &json!({"data": PUBLICATION})))).await;
    let endpoint = json!({"name": "e", "url": "http://127.0.0.1:1/", "headers": {"Authorization": HEADER}});
    let endpoint = process.told(signed_in(process.post("/endpoints", &endpoint))).await;
    let trial = process.post(&format!("/endpoints/{}/test", endpoint["id"].as_str().unwrap()), &json!({}));
    drop(signed_in(trial).send().await.unwrap());
    process.told(signed_in(upload(process.client.post(format!("{}/api/v1/files", process.url)), "a.txt", CONTENT))).await;
    for path in [format!("/api/v1/jobs?token={IN_A_QUERY}"), format!("/docs/{IN_A_QUERY}"), format!("/ws?token={IN_A_QUERY}")] {
        drop(process.client.get(format!("{}{path}", process.url)).send().await.unwrap());
    }
    let callback = process.post("/callbacks/hunter2-the-token-of-a-callback", &json!({"outcome": "done"}));
    drop(callback.send().await.unwrap());
    let server_api = process.client.post(format!("{}/api/info", process.url)).header("x-api-key", SERVER_KEY).json(&json!({}));
    process.told(server_api).await;
    let change = json!({"current_password": PASSWORD, "new_password": NEXT_PASSWORD});
    process.told(signed_in(process.post("/auth/password", &change))).await;
    let made = [&session, &login, &fresh].map(|session| [&session["access_token"], &session["refresh_token"]]);
    made.into_iter().flatten().chain([&key["key"], &endpoint["secret"]]).map(|secret| secret.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_is_secret_is_in_no_log_in_no_metric_and_in_no_audit() {
    let app = TestApp::start().await;
    let process = Talkative::start(&app).await;
    let mut secrets = talk(&process).await;
    // The secret of a key or token without what names it.
    let parts: Vec<String> = secrets.iter().filter_map(|secret| Some(secret.rsplit_once(['.', '_'])?.1.to_owned())).collect();
    secrets.extend(parts.into_iter().filter(|part| part.len() >= 16));
    let servers = app.stores.variables.iter().filter(|(name, _)| ["DATABASE_URL", "REDIS_URL"].contains(&name.as_str()));
    secrets.extend(servers.filter_map(|(_, url)| Some(url.split_once("://")?.1.split_once('@')?.0.split_once(':')?.1.to_owned())));
    secrets.extend([PASSWORD, NEXT_PASSWORD, EMAIL, "hunter2"].map(str::to_owned));
    let admin = register_admin(&app).await;
    let audit = send(app.request(Method::GET, "/api/v1/audit?limit=1000").bearer_auth(token(&admin))).await.1;
    assert!(audit["items"].as_array().unwrap().len() >= 4, "{audit}");
    let metrics = process.client.get(format!("{}/metrics", process.url)).send().await.unwrap().text().await.unwrap();
    let log = process.log();
    assert!(log.contains("POST") && log.lines().count() > 50, "it logs what is asked of it: {log}");
    for secret in &secrets {
        for line in log.lines() {
            assert!(!line.contains(secret.as_str()), "{secret} is in the log: {line}");
        }
        assert!(!metrics.contains(secret.as_str()), "{secret} is in the metrics");
        // Who did it is the point of the audit log, by id.
        assert!(!audit.to_string().contains(secret.as_str()), "{secret} is in the audit log");
    }
}
