//! PostgreSQL and Redis over TLS, as `infra/local/tls` starts them: their certificate is for `localhost` alone, so that the same
//! servers at 127.0.0.1 have the wrong name. Their authority is a new one each time; a second one has nothing to do with them.
//!
//! That whole processes, their workers and what listens work over TLS is shown by the other tests, which that script runs there too.

use crate::support::{TestApp, send};
use rstest::rstest;
use shared::{Context, Result, testing::TestStores};
use std::env;

const NEEDS: &str = "infra/local/tls runs this";

/// A file of the folder in which the script has made authorities and certificates.
fn file(name: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "no setting of the platform: it says where the script has put its certificates")]
    let folder = env::var("MILLRACE_TLS_DIR").expect(NEEDS);
    format!("{folder}/{name}")
}

/// One of the variables of the stores, whose URLs lead to `localhost` over TLS.
fn variable<'a>(stores: &'a TestStores, name: &str) -> &'a str {
    stores.variables.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str()).expect(NEEDS)
}

async fn ask_redis(stores: &TestStores, url: &str, authority: &str) -> Result<()> {
    let ctx: Context = stores.context(&[("REDIS_URL", url), ("REDIS_CA_FILE", authority), ("REDIS_ACQUIRE_TIMEOUT_MS", "10000")]);
    ctx.redis.ping().await?;
    ctx.redis.pubsub().await.map(drop)
}

#[rstest]
#[case::its_authority_and_its_name("localhost", "ca.pem", true)]
#[case::another_name("127.0.0.1", "ca.pem", false)]
#[case::another_authority("localhost", "other-ca.pem", false)]
#[case::the_authorities_of_the_machine("localhost", "", false)]
#[ignore = "infra/local/tls runs this"]
#[tokio::test]
async fn tls_redis_is_believed_by_its_authority_and_its_name(#[case] host: &str, #[case] authority: &str, #[case] is_believed: bool) {
    let stores = TestStores::create().await;
    let url = variable(&stores, "REDIS_URL").replace("localhost", host);
    assert!(url.starts_with("rediss://"), "{NEEDS}");
    let authority = if authority.is_empty() { String::new() } else { file(authority) };
    let asked = ask_redis(&stores, &url, &authority).await;
    assert_eq!(asked.is_ok(), is_believed, "{asked:?}");
}

#[tokio::test]
#[ignore = "infra/local/tls runs this"]
async fn tls_is_not_left_out_where_redis_asks_for_it() {
    let stores = TestStores::create().await;
    let url = variable(&stores, "REDIS_URL").replace("rediss://", "redis://");
    assert!(ask_redis(&stores, &url, &file("ca.pem")).await.is_err());
}

#[rstest]
#[case::plain_text("localhost", "sslmode=disable", false)]
#[case::anybody("127.0.0.1", "sslmode=require", true)]
#[case::its_authority("127.0.0.1", "sslmode=verify-ca&sslrootcert={ca.pem}", true)]
#[case::another_authority("localhost", "sslmode=verify-ca&sslrootcert={other-ca.pem}", false)]
#[case::another_authority_even_without_verify("localhost", "sslmode=require&sslrootcert={other-ca.pem}", true)]
#[case::its_authority_and_its_name("localhost", "sslmode=verify-full&sslrootcert={ca.pem}", true)]
#[case::another_name("127.0.0.1", "sslmode=verify-full&sslrootcert={ca.pem}", false)]
#[case::no_authority_of_its_own("localhost", "sslmode=verify-full", false)]
#[ignore = "infra/local/tls runs this"]
#[tokio::test]
async fn tls_postgres_is_believed_as_the_mode_says(#[case] host: &str, #[case] query: &str, #[case] is_believed: bool) {
    let stores = TestStores::create().await;
    let (url, _) = variable(&stores, "DATABASE_URL").split_once('?').expect(NEEDS);
    let query = query.replace("{ca.pem}", &file("ca.pem")).replace("{other-ca.pem}", &file("other-ca.pem"));
    let url = format!("{}?{query}", url.replace("localhost", host));
    let ctx = stores.context(&[("DATABASE_URL", &url), ("DB_ACQUIRE_TIMEOUT_MS", "10000")]);
    let is_encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let asked = sqlx::query_scalar::<_, bool>(is_encrypted).fetch_one(&ctx.pg).await;
    assert_eq!(asked.as_ref().ok().copied(), is_believed.then_some(true), "{asked:?}");
}

#[tokio::test]
#[ignore = "infra/local/tls runs this"]
async fn tls_is_used_by_every_connection_of_a_ready_process() {
    let app = TestApp::start().await;
    assert_eq!(send(app.get("/readyz")).await.0, 200);
    let in_the_clear = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE datname = current_database() AND backend_type = 'client backend' AND NOT ssl";
    assert_eq!(sqlx::query_scalar::<_, i64>(in_the_clear).fetch_one(&app.state.ctx.pg).await.unwrap(), 0);
}
