//! Connections to PostgreSQL, as the server counts them: how many a process opens, and when.

use crate::{
    auth::{register, register_admin, token},
    support::{TestApp, send},
};
use futures_util::future::join_all;
use reqwest::Url;
use serde_json::json;
use shared::testing::TestStores;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, postgres::PgConnectOptions};
use std::time::Duration;
use tokio::time::timeout;

/// Looks at the server over a connection that is not of the process.
struct Looker(PgConnection);

impl Looker {
    async fn at(pool: &PgPool) -> Self {
        let options = PgConnectOptions::clone(&pool.connect_options()).application_name("looker");
        Self(PgConnection::connect_with(&options).await.unwrap())
    }

    /// Connections that Millrace has to this database.
    async fn count(&mut self) -> i64 {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'millrace'";
        sqlx::query_scalar(count).fetch_one(&mut self.0).await.unwrap()
    }
}

async fn until_ready(app: &TestApp) {
    let ready = async { while send(app.get("/readyz")).await.0 != 200 {} };
    timeout(Duration::from_secs(30), ready).await.expect("it gets ready");
}

#[tokio::test]
async fn a_process_that_is_ready_has_what_it_keeps_and_no_more_than_it_may() {
    for n_threads in ["1", "2", "3"] {
        let pools = [("DB_POOL_MIN", "12"), ("DB_POOL_MAX", "14"), ("API_WORKERS", n_threads), ("DB_ACQUIRE_TIMEOUT_MS", "20000")];
        let app = TestApp::start_with(&pools).await;
        until_ready(&app).await;
        let n_open = Looker::at(&app.state.ctx.pg).await.count().await;
        // The probe has one beside the pools, and a look at the migrations another.
        assert!((12..=14).contains(&n_open), "{n_open} connections with {n_threads} threads");
    }
}

#[tokio::test]
async fn a_process_whose_connections_are_not_there_yet_is_not_ready() {
    let stores = TestStores::create().await;
    let ctx = stores.context(&[]);
    let mut looker = Looker::at(&ctx.pg).await;
    let role = format!("few_{}", uuid::Uuid::now_v7().simple());
    let user: String = sqlx::query_scalar("SELECT current_user").fetch_one(&mut looker.0).await.unwrap();
    let create = format!("CREATE ROLE {role} LOGIN PASSWORD 'x' CONNECTION LIMIT 5 IN ROLE \"{user}\"");
    looker.0.execute(AssertSqlSafe(create)).await.unwrap();
    let (_, url) = stores.variables.iter().find(|(name, _)| name == "DATABASE_URL").unwrap();
    let mut url = Url::parse(url).unwrap();
    url.set_username(&role).unwrap();
    url.set_password(Some("x")).unwrap();
    let few = [("DATABASE_URL", url.as_str()), ("DB_POOL_MIN", "6"), ("DB_POOL_MAX", "8"), ("DB_ACQUIRE_TIMEOUT_MS", "30000")];
    let app = TestApp::serve(stores, &few).await;
    assert_eq!(send(app.get("/readyz")).await.0, 503, "there are no six connections to be had");
    looker.0.execute(AssertSqlSafe(format!("ALTER ROLE {role} CONNECTION LIMIT -1"))).await.unwrap();
    until_ready(&app).await;
    assert!(looker.count().await >= 6);
    drop(app);
    let drop_role =
        [format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"), format!("DROP ROLE {role}")];
    for statement in drop_role {
        drop(looker.0.execute(AssertSqlSafe(statement)).await);
    }
}

#[tokio::test]
async fn a_process_that_begins_without_postgres_does_not_wait_for_it() {
    let dead = [("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none"), ("DB_POOL_MIN", "4"), ("DB_ACQUIRE_TIMEOUT_MS", "100")];
    let app = TestApp::start_with(&dead).await;
    timeout(Duration::from_secs(10), app.state.filling.ended()).await.expect("nobody waits for what does not come");
    assert_eq!(send(app.get("/readyz")).await.0, 503);
    assert_eq!(send(app.get("/healthz")).await.0, 200);
}

/// A creation holds a connection of its threads' while it asks over the process's: were they of one pool, as many creations as it has
/// connections would wait for each other.
#[tokio::test]
async fn creations_at_once_get_through_where_the_threads_share_two_connections() {
    let few = [
        ("API_WORKERS", "2"),
        ("DB_POOL_MAX", "6"),
        ("DB_ACQUIRE_TIMEOUT_MS", "20000"),
        ("REQUEST_TIMEOUT_MS", "60000"),
        ("RATE_LIMITS", "off"),
    ];
    let app = TestApp::start_with(&few).await;
    assert!(app.state.ctx.has_pool_of_threads());
    let session = register_admin(&app).await;
    let batch = json!({"jobs": [{"kind": "debug.echo"}], "on_complete": {"kind": "debug.echo"}});
    let create =
        |n: usize| app.post("/api/v1/batches").bearer_auth(token(&session)).header("Idempotency-Key", format!("creation-{n}")).json(&batch);
    let answers = join_all((0..24).map(|n| send(create(n)))).await;
    for (status, answer) in answers {
        assert_eq!(status, 201, "{answer}");
    }
}

#[tokio::test]
async fn one_users_slow_reads_leave_connections_to_others() {
    let patient =
        [("DB_LOCK_TIMEOUT_MS", "30000"), ("DB_STATEMENT_TIMEOUT_MS", "60000"), ("REQUEST_TIMEOUT_MS", "60000"), ("RATE_LIMITS", "off")];
    let app = TestApp::start_with(&patient).await;
    let (greedy, other) = (register(&app, "greedy@example.org").await, register(&app, "other@example.org").await);
    let mut looker = Looker::at(&app.state.ctx.pg).await;
    let mut lock = looker.0.begin().await.unwrap();
    lock.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let slow: Vec<_> = (0..12).map(|_| tokio::spawn(send(app.get("/api/v1/jobs").bearer_auth(token(&greedy))))).collect();
    let waiting =
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let until_slow = async { while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut *lock).await.unwrap() < 3 {} };
    timeout(Duration::from_secs(30), until_slow).await.expect("three of the four connections wait for the lock");
    for _ in 0..8 {
        assert_eq!(send(app.get("/api/v1/tracks").bearer_auth(token(&other))).await.0, 200, "the fourth is for others");
    }
    lock.rollback().await.unwrap();
    for answer in join_all(slow).await {
        assert_eq!(answer.unwrap().0, 200, "and who waited gets what they asked for");
    }
}

#[tokio::test]
async fn who_waits_for_stats_keeps_no_turn_from_other_reads() {
    let app = TestApp::start_with(&[("DB_LOCK_TIMEOUT_MS", "30000"), ("DB_STATEMENT_TIMEOUT_MS", "60000"), ("RATE_LIMITS", "off")]).await;
    let user = register(&app, "user@example.org").await;
    let mut looker = Looker::at(&app.state.ctx.pg).await;
    let mut lock = looker.0.begin().await.unwrap();
    lock.execute("LOCK TABLE point_hours IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let stats: Vec<_> = (0..12).map(|_| tokio::spawn(send(app.get("/api/v1/points/stats").bearer_auth(token(&user))))).collect();
    let waiting =
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let until_slow = async { while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut *lock).await.unwrap() < 1 {} };
    timeout(Duration::from_secs(30), until_slow).await.expect("one reads stats");
    for _ in 0..8 {
        assert_eq!(send(app.get("/api/v1/auth/me").bearer_auth(token(&user))).await.0, 200);
    }
    lock.rollback().await.unwrap();
    for answer in join_all(stats).await {
        assert!(matches!(answer.unwrap().0.as_u16(), 200 | 503), "it comes, or another's turn took too long");
    }
}
