//! Which index a statement may go by, whatever the statistics say when it is planned.

use super::Fixture;
use crate::pg;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

/// What workers write with, on connections whose plans are made once and kept; with their numbers of parameters.
const KEPT: [(&str, usize); 3] = [
    (include_str!("../engine/store/succeed.sql"), 7),
    (include_str!("../engine/store/conclude.sql"), 15),
    (include_str!("../engine/store/conclude_volatile.sql"), 29),
];

async fn plan(connection: &mut PgConnection, explain: String) -> Vec<String> {
    let lines = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(connection).await.unwrap();
    lines.iter().map(|line| line.get(0)).collect()
}

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
        let plan = plan(&mut connection, explain).await;
        // Dear as that is made here, there is no other way: no index (queue, id) is read from end to end.
        assert!(plan[0].starts_with("Seq Scan"), "{plan:?}");
    }
}

#[tokio::test]
async fn conclusions_look_keys_up_also_when_planned_on_an_empty_table() {
    let fixture = Fixture::new().await;
    let mut connection = pg::connect_by_index(&fixture.ctx.settings()).await.unwrap();
    for state in ["none", "VACUUM ANALYZE jobs, job_attempts", "TRUNCATE jobs, job_attempts"] {
        if state != "none" {
            sqlx::raw_sql(state).execute(&mut connection).await.unwrap();
        }
        for (sql, n_parameters) in KEPT {
            let nulls = vec!["NULL"; n_parameters].join(", ");
            sqlx::raw_sql(AssertSqlSafe(format!("DEALLOCATE ALL; PREPARE kept AS {sql}"))).execute(&mut connection).await.unwrap();
            let plan = plan(&mut connection, format!("EXPLAIN EXECUTE kept ({nulls})")).await;
            let is_read = |line: &&String| ["on jobs ", "using jobs_pkey", "job_attempts_pkey"].iter().any(|read| line.contains(read));
            let reads = plan.iter().filter(is_read).filter(|line| line.contains("Scan")).count();
            let looked_up =
                plan.iter().filter(|line| line.contains("Index Cond: ") && line.contains("id = ") && line.contains("told")).count();
            assert!(reads > 0 && reads == looked_up, "{reads} reads, {looked_up} by key, after {state}:\n{}", plan.join("\n"));
        }
    }
}
