//! Which index a statement may go by, whatever the statistics say when it is planned.

use super::Fixture;
use crate::{
    Code, Context,
    ids::JobId,
    jobs::{list, read},
    pg,
};
use serde_json::json;
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
async fn a_look_by_key_keeps_its_plan_and_a_list_is_planned_for_what_it_is_asked_with() {
    let fixture = Fixture::new().await;
    // Of so few one connection is the thread's.
    let process = Context::open_beside_workers(fixture.stores.settings(&[("DB_POOL_MAX", "4")]), 1).unwrap();
    let thread = process.for_worker(1).unwrap();
    for query in [json!({}), json!({"state": "retrying"}), json!({"state": "dead"}), json!({"kind": "echo"})] {
        for _ in 0..10 {
            list::list(&thread, &fixture.user, &serde_json::from_value(query.clone()).unwrap()).await.unwrap();
            assert_eq!(read::get(&thread, &fixture.user, JobId::new()).await.unwrap_err().code, Code::NotFound);
        }
    }
    let statements = "SELECT statement, generic_plans FROM pg_prepared_statements WHERE parameter_types <> '{}'";
    let kept: Vec<(String, i64)> = sqlx::query_as(statements).fetch_all(&thread.pg).await.unwrap();
    assert!(kept.iter().any(|(statement, n_kept)| statement.contains("FROM jobs_ended_") && *n_kept > 0), "{kept:?}");
    assert!(kept.iter().all(|(statement, _)| !statement.contains("LIMIT")), "{kept:?}");
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
