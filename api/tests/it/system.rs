//! Probes and metrics: true with both servers, and without either.

use crate::support::{TestApp, send, send_for_problem};
use api::problems::type_of;
use serde_json::json;
use shared::Code;

#[tokio::test]
async fn liveness_answers_under_all_its_names() {
    let app = TestApp::start().await;
    for path in ["/healthz", "/health", "/api/health"] {
        assert_eq!(send(app.get(path)).await, (200.try_into().unwrap(), json!({"status": "ok"})), "{path}");
    }
}

#[tokio::test]
async fn the_root_leads_on_to_what_is_there() {
    let app = TestApp::start_with(&[("DOCS", "public")]).await;
    let (status, index) = send(app.get("/")).await;
    assert_eq!((status.as_u16(), &index["name"]), (200, &json!("Millrace")));
    for member in ["docs", "openapi", "health"] {
        let path = index[member].as_str().unwrap();
        let status = app.get(path).send().await.unwrap().status();
        assert!(status.is_success() || status.is_redirection(), "{member}: {path} is {status}");
    }
    let closed = app.sibling(&[("DOCS", "off")]).await;
    assert_eq!(send(closed.get("/")).await.1, json!({"name": "Millrace", "health": "/healthz"}));
}

#[tokio::test]
async fn the_type_of_a_problem_leads_to_what_explains_it() {
    let app = TestApp::start().await;
    let (_, problem) = send(app.get("/nope")).await;
    let (status, explained) = send(app.get(problem["type"].as_str().unwrap())).await;
    assert_eq!(status, 200);
    for member in ["type", "code", "title", "status"] {
        assert_eq!(explained[member], problem[member], "{member}");
    }
    for code in Code::ALL {
        let (status, explained) = send(app.get(&type_of(*code))).await;
        assert_eq!((status.as_u16(), &explained["code"]), (200, &json!(code.as_str())));
        assert!(explained["advice"].as_str().is_some_and(|advice| advice.ends_with('.')), "{explained}");
    }
    assert_eq!(send_for_problem(app.get("/problems/no_such")).await, (404, "not_found".to_owned()));
}

#[tokio::test]
async fn readiness_names_each_dependency() {
    let app = TestApp::start().await;
    let (status, body) = send(app.get("/readyz")).await;
    assert_eq!((status.as_u16(), &body["status"]), (200, &json!("ready")), "{body}");
    assert_eq!(body["checks"]["postgres"]["critical"], true);
    assert_eq!(body["checks"]["redis"]["critical"], false);
    assert_eq!(body["checks"]["migrations"]["ok"], true);
}

#[tokio::test]
async fn without_redis_the_process_is_degraded_and_ready() {
    let app = TestApp::start_with(&[("REDIS_URL", "redis://127.0.0.1:1")]).await;
    let (status, body) = send(app.get("/readyz")).await;
    assert_eq!((status.as_u16(), &body["status"]), (200, &json!("degraded")), "{body}");
}

#[tokio::test]
async fn without_postgres_the_process_is_unready_and_alive() {
    let app = TestApp::start_with(&[("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none"), ("DB_ACQUIRE_TIMEOUT_MS", "100")]).await;
    let (status, body) = send(app.get("/readyz")).await;
    assert_eq!((status.as_u16(), &body["status"]), (503, &json!("unready")), "{body}");
    assert_eq!(send(app.get("/healthz")).await.0, 200);
}

#[tokio::test]
async fn a_draining_process_is_not_ready_and_closes_connections() {
    let app = TestApp::start().await;
    app.state.drain.begin();
    let response = app.get("/readyz").send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["connection"], "close");
    assert_eq!(response.json::<serde_json::Value>().await.unwrap()["status"], "draining");
}

#[tokio::test]
async fn metrics_keep_the_names_that_dashboards_use() {
    let app = TestApp::start().await;
    send(app.get("/nope")).await;
    let text = app.get("/metrics").send().await.unwrap().text().await.unwrap();
    for name in ["app_active_connections{worker=\"api-w0\"}", "app_errors_total{kind=\"not_found\"}", "process_resident_memory_bytes"] {
        assert!(text.contains(name), "{name} is missing in\n{text}");
    }
}

#[tokio::test]
async fn metrics_and_docs_are_for_operators_outside_development() {
    let app = TestApp::start_with(&[("METRICS", "operator"), ("DOCS", "off")]).await;
    assert_eq!(send(app.get("/metrics")).await.0, 401);
    assert_eq!(send(app.get("/api-docs/openapi.json")).await.0, 404);
}
