//! Which index a statement may go by, whatever the statistics say when it is planned.

use super::Fixture;
use sqlx::{Connection, PgConnection, Row};

#[tokio::test]
async fn no_index_but_the_primary_key_answers_a_look_up_by_id() {
    let fixture = Fixture::new().await;
    let mut connection = PgConnection::connect_with(&fixture.ctx.pg.connect_options()).await.unwrap();
    for statement in
        ["SET enable_seqscan = off", "ALTER TABLE jobs DROP CONSTRAINT jobs_pkey", "ALTER TABLE jobs_ended DROP CONSTRAINT jobs_ended_pkey"]
    {
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }
    for table in ["jobs", "jobs_ended_default"] {
        let explain = format!("EXPLAIN SELECT id FROM {table} WHERE id = '00000000-0000-7000-8000-000000000000'");
        let plan = sqlx::query(sqlx::AssertSqlSafe(explain)).fetch_all(&mut connection).await.unwrap();
        let plan: Vec<String> = plan.iter().map(|line| line.get(0)).collect();
        // Dear as that is made here, there is no other way: no index (queue, id) is read from end to end.
        assert!(plan[0].starts_with("Seq Scan"), "{plan:?}");
    }
}
