//! Where reads go with `DATABASE_READ_URL`: another database stands for the replica, and tells by what it holds that it was asked.

use crate::{
    auth::{register_admin, token},
    support::{TestApp, send},
};
use serde_json::{Value, json};
use shared::testing::MetricsPage;
use std::time::Duration;
use tokio::time::timeout;

const DEAD: &str = "postgres://nobody@127.0.0.1:1/none";
const ENDPOINTS_HERE: (&str, &str) = ("OUTBOUND_ALLOW", "127.0.0.0/8");

/// A list, and a body that makes what is in it.
const LISTS: [(&str, &str); 5] = [
    ("/api/v1/jobs", r#"{"kind": "debug.echo"}"#),
    ("/api/v1/schedules", r#"{"name": "hourly", "kind": "debug.echo", "every_ms": 3600000}"#),
    ("/api/v1/batches", r#"{"name": "one", "jobs": [{"kind": "debug.echo"}]}"#),
    ("/api/v1/tracks", r#"{"name": "a"}"#),
    ("/api/v1/endpoints", r#"{"name": "here", "url": "http://127.0.0.1:9/"}"#),
];

fn url_of(app: &TestApp) -> String {
    app.stores.variables.iter().find(|(name, _)| name == "DATABASE_URL").unwrap().1.clone()
}

async fn make(app: &TestApp, session: &Value, path: &str, body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap();
    let (status, made) = send(app.post(path).bearer_auth(token(session)).json(&body)).await;
    assert!(status.is_success(), "{path}: {made}");
    made["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn lists_come_from_the_replica_and_single_things_from_the_primary() {
    let elsewhere = TestApp::start_with(&[ENDPOINTS_HERE]).await;
    let app = TestApp::start_with(&[("DATABASE_READ_URL", &url_of(&elsewhere)), ENDPOINTS_HERE]).await;
    let (there, here) = (register_admin(&elsewhere).await, register_admin(&app).await);
    let get = |path: String| send(app.get(&path).bearer_auth(token(&here)));
    for (path, body) in LISTS {
        let (in_replica, in_primary) = (make(&elsewhere, &there, path, body).await, make(&app, &here, path, body).await);
        // On a busy machine a connection to it may not be there in time, and the primary answers.
        let from_replica = async {
            loop {
                let (_, page) = get(path.to_owned()).await;
                let holds = |id: &str| page["items"].as_array().unwrap().iter().any(|item| item["id"] == id);
                assert_ne!(holds(&in_replica), holds(&in_primary), "{path}: {page}");
                if holds(&in_replica) {
                    return;
                }
            }
        };
        timeout(Duration::from_secs(20), from_replica).await.expect("the replica is asked");
        assert_eq!(get(format!("{path}/{in_replica}")).await.0, 404, "{path}");
        assert_eq!(get(format!("{path}/{in_primary}")).await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn what_the_replica_does_not_know_yet_is_asked_of_the_primary() {
    let elsewhere = TestApp::start().await;
    let app = TestApp::start_with(&[("DATABASE_READ_URL", &url_of(&elsewhere))]).await;
    let session = register_admin(&app).await;
    let track = make(&app, &session, "/api/v1/tracks", r#"{"name": "a"}"#).await;
    for rest in ["points", "stats"] {
        let (status, answer) = send(app.get(&format!("/api/v1/tracks/{track}/{rest}")).bearer_auth(token(&session))).await;
        assert_eq!(status, 200, "{rest}: {answer}");
    }
}

#[tokio::test]
async fn without_its_replica_a_process_is_ready_and_reads_from_the_primary() {
    let impatient = [("DB_ACQUIRE_TIMEOUT_MS", "1000"), ("HEALTH_PROBE_TIMEOUT_MS", "1000")];
    let settings = [&[("DATABASE_READ_URL", DEAD), ("DB_POOL_MIN", "2"), ENDPOINTS_HERE], &impatient[..]].concat();
    let app = TestApp::start_with(&settings).await;
    let session = register_admin(&app).await;
    for (path, body) in LISTS {
        let id = make(&app, &session, path, body).await;
        let (status, page) = send(app.get(path).bearer_auth(token(&session))).await;
        assert_eq!((status.as_u16(), &page["items"][0]["id"]), (200, &json!(id)), "{page}");
    }
    assert_eq!(send(app.get("/readyz")).await.0, 200);
    let opens = app.state.ctx.replica.as_ref().unwrap().breaker.opened();
    timeout(Duration::from_secs(20), opens).await.expect("the breaker opens");
    let page = MetricsPage::read(&app.get("/metrics").send().await.unwrap().text().await.unwrap());
    assert!(page.sum("db_replica_fallbacks_total", &[("reason", "away")]) >= Some(5.0));
}
