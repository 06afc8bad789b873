//! `GET /system/capacity`, and the commands `capacity` and `doctor`, which look at the same things.

use crate::{
    auth::{register_admin, token},
    support::{TestApp, send},
};
use serde_json::{Value, json};
use std::process::Output;
use tokio::process::Command;

async fn capacity(app: &TestApp, query: &str) -> (u16, Value) {
    let admin = register_admin(app).await;
    let (status, body) = send(app.get(&format!("/api/v1/system/capacity{query}")).bearer_auth(token(&admin))).await;
    (status.as_u16(), body)
}

/// The figure of a line.
fn figure(capacity: &Value, name: &str) -> u64 {
    let lines = capacity["advice"].as_array().unwrap();
    lines.iter().find(|line| line["name"] == name).unwrap_or_else(|| panic!("a line for {name} in {capacity}"))["value"].as_u64().unwrap()
}

#[tokio::test]
async fn a_size_for_so_many_users_says_why_and_what_to_paste() {
    let app = TestApp::start().await;
    let (status, body) = capacity(&app, "?users=60000").await;
    assert_eq!(
        (status, &body["tier"], &body["profile"], &body["load"]["is_asked"]),
        (200, &json!("extreme"), &json!("maximum"), &json!(true))
    );
    assert!(body["nodes"].as_u64().unwrap() >= 4 && figure(&body, "worker_processes") == 4, "{body}");
    assert!(body["advice"].as_array().unwrap().iter().all(|line| line["reason"].as_str().is_some_and(|reason| !reason.is_empty())));
    assert!(body["env"].as_array().unwrap().contains(&json!("WORKER_CONCURRENCY=12")), "{body}");
    assert!(body["postgres"]["max_connections"].as_u64().unwrap() > 0 && body["redis"]["maxclients"].as_u64().unwrap() > 0, "{body}");
}

#[tokio::test]
async fn without_users_it_is_for_what_goes_on_now() {
    let app = TestApp::start().await;
    let (status, body) = capacity(&app, "").await;
    assert_eq!((status, &body["load"]["is_asked"], &body["tier"]), (200, &json!(false), &json!("low")), "{body}");
    assert_eq!((&body["load"]["sockets"], &body["load"]["jobs_ready"]), (&json!(0), &json!(0)));
    assert!(body["load"]["cpu_percent"].is_number() && body["signals"].as_array().unwrap().len() >= 10, "{body}");
}

#[tokio::test]
async fn a_number_of_users_that_cannot_be_is_refused() {
    let app = TestApp::start().await;
    let admin = register_admin(&app).await;
    for query in ["users=0", "users=10000001", "users=many", "user=5"] {
        let (status, body) = send(app.get(&format!("/api/v1/system/capacity?{query}")).bearer_auth(token(&admin))).await;
        assert_eq!((status.as_u16(), &body["code"]), (400, &json!("invalid_query")), "{query}");
    }
}

#[tokio::test]
async fn without_redis_the_rest_is_told() {
    let app = TestApp::start_with(&[("REDIS_URL", "redis://127.0.0.1:1")]).await;
    let (status, body) = capacity(&app, "?users=5").await;
    assert_eq!((status, &body["redis"], &body["load"]["api_processes"]), (200, &Value::Null, &Value::Null), "{body}");
    assert!(body["postgres"]["connections"].as_u64().unwrap() > 0);
}

async fn command(app: &TestApp, arguments: &[&str], overrides: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_millrace-api"))
        .args(arguments)
        .envs(app.stores.variables.iter().cloned())
        .envs(overrides.iter().copied())
        .output()
        .await
        .expect("the binary was built with this test")
}

#[tokio::test]
async fn the_command_tells_the_same_as_the_route() {
    let app = TestApp::start().await;
    let output = command(&app, &["capacity", "--users", "1500", "--json"], &[]).await;
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON on standard output");
    let (_, asked) = capacity(&app, "?users=1500").await;
    assert!(output.status.success());
    assert_eq!((&told["nodes"], &told["env"]), (&asked["nodes"], &asked["env"]));
    let text = command(&app, &["capacity"], &[]).await.stdout;
    assert!(String::from_utf8_lossy(&text).contains("To paste into .env:\nAPP_PROFILE=production\n"));
}

/// Its exit code, and the findings of a subject.
async fn doctor(app: &TestApp, arguments: &[&str], overrides: &[(&str, &str)], subject: &str) -> (Option<i32>, Vec<Value>) {
    let output = command(app, &[&["doctor", "--json"], arguments].concat(), overrides).await;
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON on standard output");
    assert_eq!(report["ok"], output.status.success());
    let findings = report["findings"].as_array().unwrap().iter().filter(|finding| finding["subject"] == subject).cloned();
    (output.status.code(), findings.collect())
}

#[tokio::test]
async fn the_doctor_is_content_with_a_machine_that_is_well() {
    let app = TestApp::start().await;
    for (subject, n_looks) in [("postgres", 1), ("pools", 1), ("clock", 2), ("migrations", 1), ("stopping", 1)] {
        let (code, findings) = doctor(&app, &[], &[("API_PORT", "0"), ("WORKER_METRICS_ADDR", "none")], subject).await;
        assert_eq!((code, findings.len()), (Some(0), n_looks), "{findings:?}");
        assert!(findings.iter().all(|finding| finding["verdict"] == "good"), "{findings:?}");
    }
}

#[tokio::test]
async fn the_doctor_finds_what_ails() {
    let app = TestApp::start().await;
    let (code, findings) = doctor(&app, &["--stop-timeout", "5"], &[], "stopping").await;
    assert_eq!((code, &findings[0]["verdict"]), (Some(1), &json!("bad")), "{findings:?}");
    let (_, findings) = doctor(&app, &[], &[("DB_POOL_MAX", "900")], "pools").await;
    assert_eq!(findings[0]["verdict"], "doubt", "{findings:?}");
    let (_, findings) = doctor(&app, &[], &[("DATABASE_READ_URL", "postgres://nobody@127.0.0.1:1/none")], "replica").await;
    assert_eq!(findings[0]["verdict"], "doubt", "{findings:?}");
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let (_, findings) = doctor(&app, &[], &[("WORKER_METRICS_ADDR", &taken)], "port").await;
    assert!(findings.iter().any(|finding| finding["verdict"] == "doubt"), "{findings:?}");
    let (code, findings) = doctor(&app, &[], &[("REDIS_URL", "redis://127.0.0.1:1")], "redis").await;
    assert_eq!((code, &findings[0]["verdict"]), (Some(1), &json!("bad")));
}

/// It must not be told.
const WRONG_PASSWORD: &str = "not-the-password";

#[tokio::test]
async fn what_keeps_a_server_away_is_told_once_with_its_place_and_what_to_do() {
    let app = TestApp::start().await;
    let away = format!("postgres://millrace:{WRONG_PASSWORD}@127.0.0.1:1/none");
    for (setting, url, subject, advice) in [
        ("DATABASE_URL", away, "postgres", "host and port in DATABASE_URL"),
        ("REDIS_URL", format!("redis://:{WRONG_PASSWORD}@127.0.0.1:1"), "redis", "host and port in REDIS_URL"),
    ] {
        let (code, findings) = doctor(&app, &[], &[(setting, &url)], subject).await;
        let words = findings[0]["words"].as_str().unwrap();
        assert_eq!((code, words.matches("refused").count()), (Some(1), 1), "{words}");
        assert!(words.starts_with("127.0.0.1:1: ") && words.ends_with(advice), "{words}");
        assert!(!words.contains("request id") && !words.contains(WRONG_PASSWORD), "{words}");
    }
}

#[tokio::test]
async fn a_command_before_the_migration_says_to_migrate() {
    let app = TestApp::start().await;
    sqlx::query("DROP TABLE users CASCADE").execute(&app.state.ctx.pg).await.unwrap();
    let output = command(&app, &["admin", "create", "--email", "first@example.org"], &[]).await;
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), &*told), (Some(1), "relation \"users\" does not exist; run `millrace-api migrate`\n"));
}
