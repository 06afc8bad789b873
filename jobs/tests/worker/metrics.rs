//! `/metrics` of a worker, children and all, held against the list of all metrics. The API's page: `api/tests/it/metrics.rs`.

use crate::{
    serving::{free_addr, until},
    world::World,
};
use serde_json::json;
use shared::{jobs::JobState, telemetry::metrics::Teller, testing::MetricsPage};

#[tokio::test]
async fn the_page_tells_what_the_list_says_and_nothing_else() {
    let world = World::new().await;
    let addr = free_addr();
    let _worker = world.worker(&[("WORKER_METRICS_ADDR", &addr.to_string()), ("WORKER_CHILDREN", "2")]);
    let (done, failed) = (world.echo().await, world.submit(json!({"kind": "debug.fail", "retry": {"max_attempts": 1}})).await);
    world.until(done, JobState::Succeeded).await;
    world.until(failed, JobState::Dead).await;
    until(addr, "/metrics", r#"job_finished_total{queue="default",kind="debug.fail""#).await;
    // Children tell of their threads once they have lived for a moment.
    let answer = until(addr, "/metrics", r#"runtime_lag_seconds_count{thread="jobs-handler"}"#).await;
    let (_, text) = answer.split_once("\r\n\r\n").unwrap();
    let page = MetricsPage::read(text);
    assert_eq!(page.complaints(Teller::Worker), Vec::<String>::new());
    let told = |name, labels: &[(&str, &str)]| page.sum(name, labels);
    assert_eq!(told("job_finished_total", &[("kind", "debug.echo"), ("outcome", "done")]), Some(1.0));
    assert!(told("process_thread_cpu_seconds_total", &[("thread", "jobs-engine"), ("child", "0")]).is_some(), "{text}");
    assert!(told("process_max_fds", &[("child", "supervisor")]) > Some(0.0));
}

#[tokio::test]
async fn a_worker_and_its_children_may_open_what_the_worker_may() {
    // Six that share the server: each worker counts as one, however many children it has.
    for (name, value) in [("DB_POOL_MAX", "40"), ("DB_PROCESSES", "6")] {
        let world = World::new().await;
        let server: String = sqlx::query_scalar("SHOW max_connections").fetch_one(&world.ctx.pg).await.unwrap();
        let most = if name == "DB_POOL_MAX" { 40 } else { (server.parse::<u32>().unwrap() - 20) / 6 };
        let addr = free_addr().to_string();
        let settings = [("WORKER_METRICS_ADDR", addr.as_str()), ("WORKER_CHILDREN", "3"), ("DB_POOL_MAX", "auto"), (name, value)];
        let _worker = world.worker(&settings);
        let job = world.echo().await;
        world.until(job, JobState::Succeeded).await;
        let answer = until(addr.parse().unwrap(), "/metrics", r#"runtime_lag_seconds_count{thread="jobs-handler"}"#).await;
        let page = MetricsPage::read(answer.split_once("\r\n\r\n").unwrap().1);
        let may_open = page.sum("db_pool_max_connections", &[]).unwrap();
        assert!(may_open > 0.0 && may_open <= f64::from(most), "{may_open} of {most} with {name}={value}");
    }
}
