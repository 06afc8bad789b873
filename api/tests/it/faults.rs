//! What is answered while PostgreSQL or Redis hangs or is gone, and when it is back: the table of docs/guides/overload.md.

use crate::{
    auth::{register_admin, token},
    process::until,
    socket::client::Socket,
    support::{TestApp, send},
};
use nix::{sys::signal::Signal, unistd::Pid};
use reqwest::{Method, RequestBuilder};
use rstest::rstest;
use serde_json::{Value, json};
use shared::testing::{Proxy, RedisServer, TestStores};
use sqlx::{Connection, Executor, PgConnection};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Whoever waited for a connection would wait longer than a test: what is refused is refused by the breaker.
const PATIENT: [(&str, &str); 5] = [
    ("DB_ACQUIRE_TIMEOUT_MS", "60000"),
    ("REQUEST_TIMEOUT_MS", "60000"),
    ("REDIS_ACQUIRE_TIMEOUT_MS", "1000"),
    ("HEALTH_PROBE_TIMEOUT_MS", "1000"),
    ("RATE_LIMITS", "off"),
];

/// A server with an admin, a job and a track, and what each of the ways to it is answered with.
struct Site {
    app: TestApp,
    token: String,
    job: String,
    track: String,
}

impl Site {
    async fn start(app: TestApp) -> Self {
        let token = token(&register_admin(&app).await).to_owned();
        let mut site = Self { app, token, job: String::new(), track: String::new() };
        let id = |answer: &Value| answer["id"].as_str().expect("it was made").to_owned();
        site.job = id(&send(site.post("/api/v1/jobs", &echo())).await.1);
        site.track = id(&send(site.post("/api/v1/tracks", &json!({"name": "a"}))).await.1);
        site
    }

    fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.app.post(path).bearer_auth(&self.token).json(body)
    }

    fn point(&self, path: &str) -> RequestBuilder {
        self.post(path, &json!({"track_id": self.track, "recorded_at": "2026-01-01T00:00:00Z", "lat": 1.0, "lon": 1.0}))
    }

    fn publish(&self) -> RequestBuilder {
        self.post("/api/v1/channels/chat:lobby/publications", &json!({"data": 1}))
    }

    fn read(&self) -> RequestBuilder {
        self.app.get(&format!("/api/v1/jobs/{}", self.job)).bearer_auth(&self.token)
    }

    /// Waits until readiness says so, and gives its whole word.
    async fn until_it_says(&self, status: &str) -> Value {
        let asked = async {
            loop {
                let (code, body) = send(self.app.get("/readyz")).await;
                // Migrations cannot be looked at before PostgreSQL counts as away.
                let is_early = status == "unready" && body["checks"]["postgres"]["ok"] == true;
                if body["status"] == status && !is_early {
                    assert_eq!(code.as_u16(), if matches!(status, "ready" | "degraded") { 200 } else { 503 });
                    return body;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), asked).await.unwrap_or_else(|_| panic!("it never says {status}"))
    }
}

fn echo() -> Value {
    json!({"kind": "debug.echo", "queue": "faults"})
}

/// Status, code of the problem, and whether it says when to come back.
async fn answer(request: RequestBuilder) -> (u16, String, bool) {
    let response = timeout(Duration::from_secs(20), request.send()).await.expect("nothing waits for its deadline").unwrap();
    let (status, says_when) = (response.status().as_u16(), response.headers().contains_key("retry-after"));
    let body: Value = response.json().await.unwrap_or_default();
    (status, body["code"].as_str().unwrap_or_default().to_owned(), says_when)
}

fn refused(code: &str) -> (u16, String, bool) {
    (503, code.to_owned(), true)
}

async fn without_postgres() -> (Site, Proxy) {
    let mut stores = TestStores::create().await;
    let url = stores.variables.iter_mut().find(|(name, _)| name == "DATABASE_URL").map(|(_, url)| url).unwrap();
    let (proxy, proxied) = Proxy::before(url).await;
    *url = proxied;
    (Site::start(TestApp::serve(stores, &PATIENT).await).await, proxy)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Hanging,
    Gone,
}

#[rstest]
#[case::hanging(Fault::Hanging)]
#[case::gone(Fault::Gone)]
#[tokio::test]
async fn without_postgres_what_needs_it_is_refused_at_once_and_the_rest_goes_on(#[case] fault: Fault) {
    let (site, proxy) = without_postgres().await;
    let mut socket = Socket::signed_in(&site.app, &site.token).await;
    socket.ask("subscribe", json!({"channel": "chat:lobby"})).await.unwrap();
    let in_redis = site.app.request(Method::PATCH, "/api/v1/queues/quick").bearer_auth(&site.token).json(&json!({"durability": "redis"}));
    assert_eq!(send(in_redis).await.0, 200);
    let quick = || site.post("/api/v1/jobs", &json!({"kind": "debug.echo", "queue": "quick"}));
    assert_eq!(answer(quick()).await.0, 202);
    site.until_it_says("ready").await;
    match fault {
        Fault::Hanging => proxy.hang(),
        Fault::Gone => proxy.refuse().await,
    }
    assert_eq!(answer(site.read()).await, refused("database_unavailable"), "also what meets the fault first");
    let readiness = site.until_it_says("unready").await;
    assert_eq!((&readiness["checks"]["postgres"]["ok"], &readiness["checks"]["redis"]["ok"]), (&json!(false), &json!(true)), "{readiness}");
    assert_ne!(readiness["checks"]["postgres"]["breaker"], "closed");
    for request in [site.read(), site.post("/api/v1/jobs", &echo()), site.post("/api/v1/jobs", &echo()).header("idempotency-key", "k")] {
        assert_eq!(answer(request).await, refused("database_unavailable"));
    }
    assert_eq!(answer(site.point("/api/v1/points?durability=postgres")).await, refused("database_unavailable"));
    assert_eq!(answer(site.point("/api/v1/points")).await.0, 202, "points wait in Redis");
    // Until after what is known of the queue would be looked at anew.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1_500) {
        assert_eq!(answer(quick()).await.0, 202, "its jobs are kept in Redis");
    }
    assert_eq!(answer(quick().header("idempotency-key", "k")).await, refused("database_unavailable"));
    assert_eq!(answer(site.publish()).await.0, 201);
    assert_eq!(socket.next_push().await["channel"], "chat:lobby");
    assert_eq!(send(site.app.get("/healthz")).await.0, 200);
    let metrics = site.app.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("breaker_state{target=\"postgres\"}"), "{metrics}");
    proxy.open();
    site.until_it_says("ready").await;
    until(&site.app.client, &format!("http://{}/api/v1/jobs/{}", site.app.address, site.job), &site.token, |response| {
        response.status() == 200
    })
    .await;
}

#[rstest]
#[case::hanging(Fault::Hanging)]
#[case::gone(Fault::Gone)]
#[tokio::test]
async fn without_redis_jobs_are_taken_and_points_are_not(#[case] fault: Fault) {
    let (mut stores, mut redis) = (TestStores::create().await, RedisServer::start().await);
    stores.use_redis(&redis);
    let site = Site::start(TestApp::serve(stores, &PATIENT).await).await;
    site.until_it_says("ready").await;
    let signal = |signal, redis: &RedisServer| {
        nix::sys::signal::kill(Pid::from_raw(i32::try_from(redis.pid()).unwrap()), signal).expect("it is our child");
    };
    match fault {
        Fault::Hanging => signal(Signal::SIGSTOP, &redis),
        Fault::Gone => redis.kill(),
    }
    let readiness = site.until_it_says("degraded").await;
    assert_eq!((&readiness["checks"]["postgres"]["ok"], &readiness["checks"]["redis"]["ok"]), (&json!(true), &json!(false)), "{readiness}");
    assert_eq!(answer(site.post("/api/v1/jobs", &echo())).await.0, 202);
    assert_eq!(answer(site.point("/api/v1/points")).await, refused("redis_unavailable"));
    assert_eq!(answer(site.point("/api/v1/points?durability=postgres")).await.0, 200);
    assert_eq!(answer(site.publish()).await, refused("redis_unavailable"));
    assert_eq!(answer(site.read()).await.0, 200);
    match fault {
        Fault::Hanging => signal(Signal::SIGCONT, &redis),
        Fault::Gone => redis.restart().await,
    }
    site.until_it_says("ready").await;
    // The thread's own connection finds its way back a moment later.
    let taken = async { while answer(site.point("/api/v1/points")).await.0 != 202 {} };
    timeout(Duration::from_secs(20), taken).await.expect("points are taken again");
}

#[tokio::test]
async fn without_both_it_is_alive_and_says_what_is_missing() {
    let (site, proxy) = without_postgres().await;
    let cut_off = site.app.twin(&[("REDIS_URL", "redis://127.0.0.1:1")]).await;
    proxy.refuse().await;
    let site = Site { app: cut_off, ..site };
    let readiness = site.until_it_says("unready").await;
    assert_eq!(
        (&readiness["checks"]["postgres"]["ok"], &readiness["checks"]["redis"]["ok"]),
        (&json!(false), &json!(false)),
        "{readiness}"
    );
    assert_eq!(answer(site.post("/api/v1/jobs", &echo())).await, refused("database_unavailable"));
    assert_eq!(answer(site.point("/api/v1/points")).await, refused("redis_unavailable"));
    assert_eq!(send(site.app.get("/healthz")).await.0, 200);
}

#[tokio::test]
async fn with_migrations_behind_it_is_unready_and_says_so() {
    let app = TestApp::start().await;
    app.state.ctx.pg.execute("DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM _sqlx_migrations)").await.unwrap();
    let late = app.twin(&[]).await;
    let (status, readiness) = send(late.get("/readyz")).await;
    assert_eq!((status.as_u16(), &readiness["status"]), (503, &json!("unready")), "{readiness}");
    assert_eq!(readiness["checks"]["migrations"]["detail"], "1 migrations are pending");
    assert_eq!(readiness["checks"]["postgres"]["ok"], true);
}

#[tokio::test]
async fn a_pool_that_is_used_up_is_no_absence_and_serves_again_when_it_is_given_back() {
    let settings = [
        ("DB_POOL_MAX", "1"),
        ("DB_ACQUIRE_TIMEOUT_MS", "2000"),
        ("DB_LOCK_TIMEOUT_MS", "60000"),
        ("DB_STATEMENT_TIMEOUT_MS", "60000"),
        ("RATE_LIMITS", "off"),
    ];
    let app = TestApp::start_with(&settings).await;
    let session = register_admin(&app).await;
    // Beside the pool of the process, which has this one connection.
    let mut lock = PgConnection::connect_with(&app.state.ctx.pg.connect_options()).await.unwrap();
    let mut lock = lock.begin().await.unwrap();
    lock.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let me = || app.get("/api/v1/auth/me").bearer_auth(token(&session));
    // Who reads takes turns besides, of which there is one too.
    let other = json!({"email": "other@example.org", "password": "correct horse battery staple", "display_name": "Other"});
    let held = tokio::spawn(app.post("/api/v1/auth/register").json(&other).send());
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let reaches_the_lock = async { while sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut *lock).await.unwrap() == 0 {} };
    timeout(Duration::from_secs(10), reaches_the_lock).await.expect("the request reaches the lock");
    assert_eq!(answer(me()).await, refused("database_unavailable"), "there is no connection left");
    assert!(!app.state.health.postgres.is_open());
    lock.rollback().await.unwrap();
    assert_eq!(held.await.unwrap().unwrap().status(), 201);
    assert_eq!(answer(me()).await.0, 200);
}
