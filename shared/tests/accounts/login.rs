//! Signing in.

use crate::world::{PASSWORD, World};
use shared::{
    Code, Role,
    accounts::{Origin, input::UserChange, users::change_user},
};

#[tokio::test]
async fn address_and_password_open_a_session() {
    let world = World::new().await;
    world.register("ada@example.org").await;
    let session = world.login("ADA@example.org", PASSWORD).await.unwrap();
    assert_eq!(world.caller(&session).await.user_id, session.user.id);
    assert_eq!(world.audited().await, ["register", "login"]);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_are_answered_the_same() {
    let world = World::new().await;
    world.register("ada@example.org").await;
    assert_eq!(world.login("ada@example.org", "not my password").await.unwrap_err(), Code::InvalidCredentials);
    assert_eq!(world.login("eve@example.org", PASSWORD).await.unwrap_err(), Code::InvalidCredentials);
    assert_eq!(world.login("not an address", PASSWORD).await.unwrap_err(), Code::InvalidCredentials);
    let log: Vec<serde_json::Value> =
        sqlx::query_scalar("SELECT to_jsonb(audit_log) FROM audit_log").fetch_all(&world.accounts.ctx.pg).await.unwrap();
    assert!(!format!("{log:?}").contains("eve@"), "addresses are not logged");
}

#[tokio::test]
async fn a_disabled_user_is_told_so_only_with_the_right_password() {
    let world = World::new().await;
    let admin = world.register_as("admin@example.org", Role::Admin).await;
    let user = world.register("ada@example.org").await.user;
    let change = UserChange { disabled: Some(true), role: None };
    change_user(&world.accounts, &world.caller(&admin).await, (user.id, change), |_| Ok(()), &Origin::default()).await.unwrap();
    assert_eq!(world.login("ada@example.org", PASSWORD).await.unwrap_err(), Code::Forbidden);
    assert_eq!(world.login("ada@example.org", "not my password").await.unwrap_err(), Code::InvalidCredentials);
}

#[tokio::test]
async fn a_hash_of_old_parameters_is_replaced_at_sign_in() {
    let world = World::new().await;
    let user = world.register("ada@example.org").await.user;
    let pg = &world.accounts.ctx.pg;
    // "correct horse battery" with m=64, t=1.
    let old = old_hash();
    sqlx::query("UPDATE users SET password_hash = $2 WHERE id = $1").bind(user.id).bind(&old).execute(pg).await.unwrap();
    world.login("ada@example.org", PASSWORD).await.unwrap();
    let new: String = sqlx::query_scalar("SELECT password_hash FROM users WHERE id = $1").bind(user.id).fetch_one(pg).await.unwrap();
    assert!(new.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{new}");
    world.login("ada@example.org", PASSWORD).await.unwrap();
}

fn old_hash() -> String {
    use argon2::{Algorithm, Argon2, Params, Version};
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
    let (salt, mut hash) = ([7; 16], [0; 32]);
    let params = Params::new(64, 1, 1, Some(32)).unwrap();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(PASSWORD.as_bytes(), &salt, &mut hash).unwrap();
    format!("$argon2id$v=19$m=64,t=1,p=1${}${}", STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash))
}

#[tokio::test]
async fn of_a_hundred_sign_ins_at_once_those_past_the_queue_are_sent_away() {
    let world = World::with(&[("PASSWORD_HASHES_MAX", "1"), ("PASSWORD_QUEUE_MAX", "4"), ("RATE_LIMITS", "off")]).await;
    world.register("ada@example.org").await;
    let tries = (0..100).map(|_| world.login("ada@example.org", PASSWORD));
    let results = futures_util::future::join_all(tries).await;
    let (ok, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert!(ok.len() >= 5, "{} of 100", ok.len());
    assert!(!refused.is_empty() && refused.iter().all(|result| matches!(result, Err(Code::Overloaded))), "{refused:?}");
}

#[tokio::test]
async fn an_account_is_tried_so_often_whether_it_exists_or_not() {
    let world = World::with(&[("RATE_LIMIT_LOGIN", "3/h")]).await;
    world.register("ada@example.org").await;
    for email in ["ada@example.org", "eve@example.org"] {
        for _ in 0..3 {
            assert_eq!(world.login(email, "not my password").await.unwrap_err(), Code::InvalidCredentials);
        }
        assert_eq!(world.login(email, PASSWORD).await.unwrap_err(), Code::RateLimited, "{email}");
    }
}
