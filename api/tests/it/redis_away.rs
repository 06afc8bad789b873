//! The API while its Redis is killed and comes back: it accepts all along, says that it is degraded, and announces by itself.

use crate::{
    process::{ApiProcess, until},
    support::TestApp,
};
use reqwest::Client;
use serde_json::{Value, json};
use shared::{keys::Keys, testing::RedisServer};
use std::time::{Duration, Instant};

#[tokio::test]
async fn without_redis_jobs_are_accepted_and_announced_when_it_is_back() {
    let mut redis = RedisServer::start().await;
    let app = TestApp::start().await;
    shared::accounts::command_line::create_admin(&app.state.accounts, "ada@example.org", &"correct horse battery".into()).await.unwrap();
    let client = Client::new();
    let process = ApiProcess::start_with(&app, &[("REDIS_URL", &redis.url())]).await;
    let token = process.token(&client).await;
    redis.kill();
    let readyz = process.url.replace("/api/v1", "/readyz");
    until_degraded(&client, &readyz, &token, true).await;
    let mut ids = Vec::new();
    for idx in 0..20 {
        let response = process.submit(&client, &token, idx).await.unwrap();
        assert_eq!(response.status(), 202);
        let job: Value = response.json().await.unwrap();
        ids.push(job["id"].as_str().unwrap().to_owned());
    }
    redis.restart().await;
    // No worker and no reconciler runs here: what is in Redis was put there by the process that accepted it.
    let att = Keys::new(app.stores.variables.iter().find(|(name, _)| name == "REDIS_PREFIX").map(|(_, prefix)| prefix).unwrap());
    let mut connection = redis::Client::open(redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(att.queue("killed", "att")).arg(&ids);
        let copies: Vec<Option<String>> = cmd.query_async(&mut connection).await.unwrap();
        if copies.iter().all(Option::is_some) {
            break;
        }
        assert!(Instant::now() < deadline, "not announced: {copies:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    until_degraded(&client, &readyz, &token, false).await;
}

async fn until_degraded(client: &Client, readyz: &str, token: &str, is_degraded: bool) {
    let asked = async {
        loop {
            let body: Value = client.get(readyz).bearer_auth(token).send().await.unwrap().json().await.unwrap();
            if (body["status"] == json!("degraded")) == is_degraded {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asked).await.expect("it comes to pass");
    until(client, readyz, token, |response| response.status() == 200).await;
}
