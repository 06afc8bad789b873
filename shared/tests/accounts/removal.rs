//! Deleting an account that has much: gone for everybody at once, removed step by step, with nothing left and nobody in its way.

use crate::world::{PASSWORD, World, eventually};
use shared::{
    Code, Error, Role,
    accounts::{
        Origin, Session,
        input::UserChange,
        removal::remove_deleted,
        users::{change_user, delete_me, get_me, get_user, list_users},
    },
    ids::UserId,
    page::page_request,
};
use sqlx::{AssertSqlSafe, Postgres, Transaction};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Something in each table that refers to users. Above ten thousand rows a table needs more than one step.
const MUCH: [&str; 8] = [
    "INSERT INTO points_dead (id, point, code, detail, submitted_by, for_all, received_at)
     SELECT gen_random_uuid(), '{}', 'refused', 'no', $1, false, now() FROM generate_series(1, 25000)",
    "INSERT INTO tracks (id, owner_id, name, created_at, updated_at)
     SELECT gen_random_uuid(), $1, 'van', now(), now() FROM generate_series(1, 10001)",
    "INSERT INTO schedules (id, owner_id, name, kind, queue, payload, job, every_ms, timezone, overlap, catch_up, paused, created_at, updated_at)
     VALUES (gen_random_uuid(), $1, 'often', 'debug.echo', 'default', '{}', '{}', 1000, 'UTC', 'allow', false, false, now(), now())",
    "INSERT INTO schedule_runs (schedule_id, fire_at)
     SELECT id, now() + n * interval '1 second' FROM schedules, generate_series(1, 10001) AS n WHERE owner_id = $1",
    "INSERT INTO endpoints (id, owner_id, name, url, timeout_ms, secret, created_at)
     VALUES (gen_random_uuid(), $1, 'a', 'https://a.example/', 1000, '', now())",
    "INSERT INTO files (id, owner_id, name, content_type, size_bytes, sha256, created_at, stored_at)
     SELECT gen_random_uuid(), $1, 'a', 'text/plain', 1, decode(repeat('00', 32), 'hex'), now(), now() FROM generate_series(1, 3)",
    "INSERT INTO api_keys (id, user_id, name, prefix, secret_hash, scopes, created_at)
     VALUES (gen_random_uuid(), $1, 'a', 'a', decode(repeat('00', 32), 'hex'), '{jobs:read}', now())",
    "INSERT INTO password_resets (id, user_id, secret_hash, created_at, expires_at)
     VALUES (gen_random_uuid(), $1, decode(repeat('00', 32), 'hex'), now(), now())",
];

/// Fails statements that remove more than one step has.
const BOUND: &str = "
    CREATE FUNCTION refuse_long_steps() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF (SELECT count(*) FROM gone) > 10000 THEN RAISE 'too many rows at once'; END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER bound AFTER DELETE ON points_dead REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION refuse_long_steps();
    CREATE TRIGGER bound AFTER DELETE ON tracks REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION refuse_long_steps();
    CREATE TRIGGER bound AFTER DELETE ON schedule_runs REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION refuse_long_steps();";

/// An account that is deleted while nobody can write to `points_dead`: it goes no further until `hold` ends.
struct Leaving {
    request: JoinHandle<Result<(), Error>>,
    hold: Transaction<'static, Postgres>,
}

impl World {
    async fn execute(&self, sql: &'static str, id: UserId) -> Result<(), sqlx::Error> {
        sqlx::query(sql).bind(id.0).execute(&self.accounts.ctx.pg).await.map(drop)
    }

    async fn give_much(&self, id: UserId) {
        for sql in MUCH {
            self.execute(sql, id).await.unwrap();
        }
    }

    async fn count(&self, what: &str) -> i64 {
        let sql = AssertSqlSafe(format!("SELECT count(*) FROM {what}"));
        sqlx::query_scalar(sql).fetch_one(&self.accounts.ctx.pg).await.unwrap()
    }

    /// The tables that refer to users, and how many rows of theirs are of `id`.
    async fn had_by(&self, id: UserId) -> Vec<(String, i64)> {
        let references: Vec<(String, String)> = sqlx::query_as(
            "SELECT conrelid::regclass::text, attname::text
             FROM pg_constraint
             JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
             WHERE contype = 'f' AND confrelid = 'users'::regclass",
        )
        .fetch_all(&self.accounts.ctx.pg)
        .await
        .unwrap();
        let mut counts = Vec::new();
        for (table, column) in references {
            let n_rows = self.count(&format!("{table} WHERE {column} = '{id}'")).await;
            counts.push((table, n_rows));
        }
        counts
    }

    async fn leave_and_stall(&self, session: &Session) -> Leaving {
        let mut hold = self.accounts.ctx.pg.begin().await.unwrap();
        sqlx::query("LOCK TABLE points_dead IN SHARE MODE").execute(&mut *hold).await.unwrap();
        let (accounts, caller) = (self.accounts.clone(), self.caller(session).await);
        let request = tokio::spawn(async move { delete_me(&accounts, &caller, &Origin::default()).await });
        let waiting = "pg_locks JOIN pg_database ON pg_database.oid = database
                       WHERE datname = current_database() AND NOT granted AND relation = 'points_dead'::regclass";
        eventually(Duration::from_secs(10), async || self.count(waiting).await > 0).await;
        Leaving { request, hold }
    }
}

#[tokio::test]
async fn who_has_much_leaves_nothing_and_no_statement_takes_more_than_a_step() {
    let world = World::new().await;
    let (ada, bob) = (world.register("ada@example.org").await, world.register("bob@example.org").await);
    for user in [&ada, &bob] {
        world.give_much(user.user.id).await;
    }
    let had = world.had_by(ada.user.id).await;
    assert!(had.iter().all(|(_, n_rows)| *n_rows > 0), "the test is to know of every table that refers to users: {had:?}");
    sqlx::raw_sql(BOUND).execute(&world.accounts.ctx.pg).await.unwrap();
    delete_me(&world.accounts, &world.caller(&ada).await, &Origin::default()).await.unwrap();
    remove_deleted(&world.accounts.ctx).await.unwrap();
    let left = world.had_by(ada.user.id).await;
    assert!(left.iter().all(|(_, n_rows)| *n_rows == 0), "{left:?}");
    assert_eq!(world.count("users").await, 1);
    assert_eq!((world.count("tracks_removed").await, world.count("files_removed").await), (10_001, 3), "what is to go after them is noted");
    assert_eq!(world.had_by(bob.user.id).await, had, "others keep what they have");
}

#[tokio::test]
async fn what_a_process_that_dies_leaves_of_them_the_leader_removes() {
    let world = World::new().await;
    let ada = world.register("ada@example.org").await;
    world.give_much(ada.user.id).await;
    let Leaving { request, hold } = world.leave_and_stall(&ada).await;
    request.abort();
    request.await.unwrap_err();
    hold.rollback().await.unwrap();
    assert_eq!(world.count("users WHERE deleted_at IS NOT NULL").await, 1);
    let another = world.another(&[]).await;
    remove_deleted(&another.ctx).await.unwrap();
    let left = world.had_by(ada.user.id).await;
    assert!(left.iter().all(|(_, n_rows)| *n_rows == 0), "{left:?}");
    assert_eq!(world.count("users").await, 0);
}

#[tokio::test]
async fn who_is_being_removed_is_gone_for_everybody_and_holds_up_nobody() {
    for role in [Role::User, Role::Admin] {
        let world = World::new().await;
        let admin = world.register_as("admin@example.org", Role::Admin).await;
        let (ada, bob) = (world.register_as("ada@example.org", role).await, world.register("bob@example.org").await);
        let leaving = world.leave_and_stall(&ada).await;

        let admin = world.login(&admin.user.email, PASSWORD).await.unwrap();
        let admin = world.caller(&admin).await;
        let promotion = (bob.user.id, UserChange { role: Some(Role::Operator), disabled: None });
        change_user(&world.accounts, &admin, promotion, |_| Ok(()), &Origin::default()).await.unwrap();

        assert_eq!(get_user(&world.accounts, &admin, ada.user.id).await.unwrap_err().code, Code::NotFound);
        let revival = (ada.user.id, UserChange { role: None, disabled: Some(false) });
        let revived = change_user(&world.accounts, &admin, revival, |_| Ok(()), &Origin::default()).await;
        assert_eq!(revived.unwrap_err().code, Code::NotFound);
        let listed = list_users(&world.accounts, &admin, &page_request(None, None).unwrap()).await.unwrap();
        assert!(listed.items.iter().all(|user| user.id != ada.user.id));

        assert_eq!(world.refused(&ada.access_token).await, Code::InvalidToken);
        assert_eq!(world.refresh(&ada.refresh_token).await.unwrap_err(), Code::InvalidRefreshToken);
        assert_eq!(world.login("ada@example.org", PASSWORD).await.unwrap_err(), Code::InvalidCredentials);
        let again = world.register("ada@example.org").await;
        assert_ne!(again.user.id, ada.user.id);

        leaving.hold.rollback().await.unwrap();
        leaving.request.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn who_deletes_an_account_twice_at_once_is_told_the_second_time_that_it_is_gone() {
    let world = World::new().await;
    let ada = world.register("ada@example.org").await;
    let (caller, origin) = (world.caller(&ada).await, Origin::default());
    let (one, other) = tokio::join!(delete_me(&world.accounts, &caller, &origin), delete_me(&world.accounts, &caller, &origin));
    let refusals: Vec<Code> = [one, other].into_iter().filter_map(Result::err).map(|error| error.code).collect();
    assert_eq!(refusals, [Code::InvalidToken]);
    assert_eq!(get_me(&world.accounts, &caller).await.unwrap_err().code, Code::InvalidToken);
}

#[tokio::test]
async fn nothing_is_added_to_what_is_being_removed() {
    let world = World::new().await;
    let ada = world.register("ada@example.org").await;
    let leaving = world.leave_and_stall(&ada).await;
    let owned =
        MUCH.iter().filter(|sql| ["tracks", "schedules ", "endpoints", "files"].iter().any(|table| sql.contains(&format!("INTO {table}"))));
    let mut n_tables = 0;
    for sql in owned {
        let error = Error::from(world.execute(sql, ada.user.id).await.unwrap_err());
        assert_eq!(error.code, Code::InvalidToken, "{sql}");
        n_tables += 1;
    }
    assert_eq!(n_tables, 4);
    leaving.hold.rollback().await.unwrap();
    leaving.request.await.unwrap().unwrap();
}

#[tokio::test]
async fn who_is_no_administrator_leaves_without_a_look_at_those() {
    let world = World::new().await;
    let admin = world.register_as("admin@example.org", Role::Admin).await;
    let ada = world.register("ada@example.org").await;
    let mut hold = world.accounts.ctx.pg.begin().await.unwrap();
    sqlx::query("SELECT FROM users WHERE id = $1 FOR UPDATE").bind(admin.user.id.0).execute(&mut *hold).await.unwrap();
    delete_me(&world.accounts, &world.caller(&ada).await, &Origin::default()).await.unwrap();
}

#[tokio::test]
async fn of_two_administrators_who_delete_themselves_at_once_one_stays() {
    let world = World::new().await;
    let one = world.register_as("one@example.org", Role::Admin).await;
    let two = world.register_as("two@example.org", Role::Admin).await;
    let (one, two, origin) = (world.caller(&one).await, world.caller(&two).await, Origin::default());
    let (a, b) = tokio::join!(delete_me(&world.accounts, &one, &origin), delete_me(&world.accounts, &two, &origin));
    let codes: Vec<_> = [a, b].into_iter().filter_map(|result| result.err().map(|error| error.code)).collect();
    assert_eq!(codes, [Code::LastAdmin]);
    assert_eq!(world.count("users WHERE role = 'admin' AND NOT disabled").await, 1);
}
