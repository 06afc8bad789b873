//! Too many, too long, and broken: limits in flight, rates, deadlines, panics, and servers that are away.

use crate::{
    auth::{register, token},
    support::{TestApp, problem_of, send, send_for_problem},
};
use actix_web::{App, HttpResponse, Route, http::header, test, web::Data};
use api::{
    edge::{Edge, Traffic},
    gate::{Access, Gate, GateOf},
};
use serde_json::Value;
use sqlx::{Executor, Postgres, Transaction};
use std::time::Duration;
use tokio::time::timeout;

/// Holds the users' table, so that whoever reads it waits.
pub(super) async fn lock_users(app: &TestApp) -> Transaction<'static, Postgres> {
    lock(app, "LOCK TABLE users IN ACCESS EXCLUSIVE MODE").await
}

pub(super) async fn lock(app: &TestApp, lock: &'static str) -> Transaction<'static, Postgres> {
    let mut tx = app.state.ctx.pg.begin().await.unwrap();
    tx.execute(lock).await.unwrap();
    tx
}

/// Returns when somebody waits for a lock in the test's database.
pub(super) async fn wait_for_waiter(app: &TestApp) {
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let somebody_waits = async {
        while sqlx::query_scalar::<_, i64>(waits).fetch_one(&app.state.ctx.pg).await.unwrap() == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), somebody_waits).await.expect("the request reaches the lock");
}

#[tokio::test]
async fn past_the_limit_in_flight_requests_are_shed_and_probes_answered() {
    let app = TestApp::start_with(&[("API_CONCURRENCY_LIMIT", "1")]).await;
    let session = register(&app, "ada@example.org").await;
    let lock = lock_users(&app).await;
    let held = tokio::spawn(app.get("/api/v1/auth/me").bearer_auth(token(&session)).send());
    wait_for_waiter(&app).await;
    let shed = app.get("/api/v1/auth/me").bearer_auth(token(&session)).send().await.unwrap();
    let retry_after: u64 = shed.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=3).contains(&retry_after));
    assert_eq!(problem_of(shed).await, (503, "overloaded".to_owned()));
    assert_eq!(send(app.get("/healthz")).await.0, 200);
    lock.rollback().await.unwrap();
    assert_eq!(held.await.unwrap().unwrap().status(), 200, "the one in flight was not harmed");
}

#[tokio::test]
async fn a_request_past_its_deadline_is_a_504() {
    let app = TestApp::start_with(&[("REQUEST_TIMEOUT_MS", "3000")]).await;
    let session = register(&app, "ada@example.org").await;
    let lock = lock_users(&app).await;
    let problem = send_for_problem(app.get("/api/v1/auth/me").bearer_auth(token(&session))).await;
    assert_eq!(problem, (504, "deadline_exceeded".to_owned()));
    lock.rollback().await.unwrap();
}

#[tokio::test]
async fn a_statement_past_its_own_deadline_is_a_504_too() {
    let app = TestApp::start_with(&[("DB_LOCK_TIMEOUT_MS", "100")]).await;
    let session = register(&app, "ada@example.org").await;
    let lock = lock_users(&app).await;
    let problem = send_for_problem(app.get("/api/v1/auth/me").bearer_auth(token(&session))).await;
    assert_eq!(problem, (504, "deadline_exceeded".to_owned()));
    lock.rollback().await.unwrap();
}

#[tokio::test]
async fn a_caller_past_its_rate_gets_429_and_is_told_where_it_stands() {
    let app = TestApp::start_with(&[("RATE_LIMIT_READ", "2/h")]).await;
    let session = register(&app, "ada@example.org").await;
    let ask = || app.get("/api/v1/auth/me").bearer_auth(token(&session)).send();
    let first = ask().await.unwrap();
    assert_eq!((first.status().as_u16(), first.headers()["x-ratelimit-limit"].to_str().unwrap()), (200, "2"));
    assert_eq!(first.headers()["x-ratelimit-remaining"], "1");
    assert_eq!(first.headers()["ratelimit-policy"], "\"read\";q=2;w=3600");
    assert_eq!(ask().await.unwrap().status(), 200);
    let refused = ask().await.unwrap();
    assert_eq!(refused.headers()["x-ratelimit-remaining"], "0");
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(problem_of(refused).await, (429, "rate_limited".to_owned()));
    assert_eq!(send(app.get("/healthz")).await.0, 200, "probes have no limit");
}

#[tokio::test]
async fn without_redis_sign_in_and_reading_go_on() {
    let app = TestApp::start_with(&[("REDIS_URL", "redis://127.0.0.1:1")]).await;
    let session = register(&app, "ada@example.org").await;
    assert_eq!(send(app.get("/api/v1/auth/me").bearer_auth(token(&session))).await.0, 200);
}

#[tokio::test]
async fn without_postgres_the_answer_is_503_and_says_when_to_come_back() {
    let app = TestApp::start().await;
    let session = register(&app, "ada@example.org").await;
    let dead = [("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none"), ("DB_ACQUIRE_TIMEOUT_MS", "200")];
    let cut_off = app.sibling(&dead).await;
    let response = cut_off.get("/api/v1/auth/me").bearer_auth(token(&session)).send().await.unwrap();
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(problem_of(response).await, (503, "database_unavailable".to_owned()));
    assert_eq!(send(cut_off.get("/healthz")).await.0, 200);
}

async fn panicking() -> HttpResponse {
    panic!("a mistake in a handler")
}

#[actix_web::test]
async fn a_panic_costs_its_request_and_says_nothing_of_itself() {
    let app = TestApp::start().await;
    let state = Data::new(app.state.clone());
    let gate = GateOf { gate: Gate { class: None, access: Access::Public }, path: "/panic" };
    let route = Route::new().to(panicking).wrap(gate);
    let service =
        test::init_service(App::new().app_data(state.clone()).route("/panic", route).wrap(Edge::new(state, Traffic::start("test")))).await;
    for _ in 0..2 {
        let response = test::call_service(&service, test::TestRequest::get().uri("/panic").to_request()).await;
        assert_eq!(
            (response.status().as_u16(), response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok())),
            (500, Some("application/problem+json"))
        );
        let problem: Value = test::read_body_json(response).await;
        assert!(!problem["detail"].as_str().unwrap().contains("mistake"), "{problem}");
    }
}

#[tokio::test]
async fn large_bodies_share_a_budget_and_small_ones_are_free() {
    let sizes = [("BODIES_MAX_BYTES", "64KiB"), ("MAX_BULK_BYTES", "64KiB"), ("MAX_BODY_BYTES", "64KiB"), ("MAX_PAYLOAD_BYTES", "32KiB")];
    let app = TestApp::start_with(&sizes).await;
    let session = register(&app, "ada@example.org").await;
    // A first body holds most of the budget for as long as its end is awaited.
    let (parts, body) = tokio::sync::mpsc::channel::<std::io::Result<String>>(1);
    parts.send(Ok(" ".repeat(60 << 10))).await.unwrap();
    let body = futures_util::stream::unfold(body, async |mut body| Some((body.recv().await?, body)));
    let login = |body: reqwest::Body| app.post("/api/v1/auth/login").header("content-type", "application/json").body(body);
    let held = tokio::spawn(login(reqwest::Body::wrap_stream(Box::pin(body))).send());
    let refused = async {
        loop {
            let answer = send(login(" ".repeat(30 << 10).into())).await;
            if answer.0 == 503 {
                return answer.1["code"].clone();
            }
            assert_eq!(answer.0, 400, "until the first body has arrived there is room");
        }
    };
    assert_eq!(timeout(Duration::from_secs(10), refused).await.expect("the budget runs out"), "overloaded");
    assert_eq!(send(app.get("/api/v1/auth/me").bearer_auth(token(&session))).await.0, 200);
    assert_eq!(send(login("{}".into())).await.0, 400, "a small body is read");
    drop(parts);
    assert_eq!(held.await.unwrap().unwrap().status(), 400);
    assert_eq!(send(login(" ".repeat(30 << 10).into())).await.0, 400, "and given back");
}
