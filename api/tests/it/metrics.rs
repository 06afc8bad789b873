//! `/metrics` of a process of its own, held against the list of all metrics. The worker's page: `jobs/tests/worker/metrics.rs`.

use crate::{
    process::ApiProcess,
    support::{TestApp, send_for_problem},
};
use reqwest::Client;
use serde_json::json;
use shared::{telemetry::metrics::Teller, testing::MetricsPage};
use std::time::{Duration, Instant};

async fn page(client: &Client, process: &ApiProcess) -> MetricsPage {
    let answer = client.get(process.url.replace("/api/v1", "/metrics")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    MetricsPage::read(&answer.text().await.unwrap())
}

#[tokio::test]
async fn the_page_tells_what_the_list_says_and_nothing_else() {
    let app = TestApp::start().await;
    shared::accounts::command_line::create_admin(&app.state.accounts, "ada@example.org", &"correct horse battery".into()).await.unwrap();
    let client = Client::new();
    let process = ApiProcess::start_with(&app, &[("METRICS", "public"), ("METRICS_LOOK_S", "1")]).await;
    let token = process.token(&client).await;
    let wrong = json!({"email": "ada@example.org", "password": "not the right horse"});
    assert_eq!(client.post(format!("{}/auth/login", process.url)).json(&wrong).send().await.unwrap().status(), 401);
    let job = process.submit(&client, &token, 1).await.unwrap().json::<serde_json::Value>().await.unwrap();
    let path = format!("{}/jobs/{}", process.url, job["id"].as_str().unwrap());
    assert_eq!(client.get(&path).bearer_auth(&token).send().await.unwrap().status(), 200);
    assert_eq!(client.get(format!("{path}/nothing")).bearer_auth(&token).send().await.unwrap().status(), 404);

    let deadline = Instant::now() + Duration::from_secs(20);
    let page = loop {
        let page = page(&client, &process).await;
        // What is told with a delay: samples that are being folded, bytes by the thread, queues by the look.
        let read = page.sum("http_server_request_duration_seconds_count", &[("route", "/jobs/{id}"), ("status", "200")]);
        let is_seen = page.sum("job_queue_depth", &[("queue", "killed")]) == Some(1.0);
        if read == Some(1.0) && is_seen && page.sum("http_server_response_body_bytes_total", &[]) > Some(0.0) {
            break page;
        }
        assert!(Instant::now() < deadline, "never told in full: {page:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(page.complaints(Teller::Api), Vec::<String>::new());
    let told = |name, labels: &[(&str, &str)]| page.sum(name, labels);
    assert_eq!(told("app_errors_total", &[("kind", "invalid_credentials")]), Some(1.0));
    assert_eq!(told("account_logins_total", &[("outcome", "ok")]), Some(1.0));
    assert_eq!(told("job_submitted_total", &[("queue", "killed")]), Some(1.0));
    assert!(told("job_queue_oldest_ready_age_seconds", &[("queue", "killed")]) > Some(0.0));
    assert_eq!((told("job_workers", &[]), told("account_sessions", &[])), (Some(0.0), Some(1.0)));
    assert!(told("process_thread_cpu_seconds_total", &[("thread", "api-w1")]).is_some());
}

#[tokio::test]
async fn few_read_the_page_at_once_and_the_next_is_sent_away() {
    let app = TestApp::start_with(&[("METRICS", "public")]).await;
    let others = app.state.scrapes.acquire_many(2).await.unwrap();
    assert_eq!(send_for_problem(app.get("/metrics")).await, (503, "overloaded".to_owned()));
    drop(others);
    assert_eq!(app.get("/metrics").send().await.unwrap().status(), 200);
}
