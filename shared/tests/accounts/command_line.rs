//! What an operator does at the machine, the audit log, and pruning.

use crate::world::{HERE, PASSWORD, World};
use shared::{
    Code, Role,
    accounts::{
        audit::list_audit,
        command_line::{AdminCreated, create_admin, issue_token},
        prune::prune,
    },
    page::page_request,
};
use time::Duration;

#[tokio::test]
async fn the_first_administrator_is_made_once() {
    let world = World::with(&[("REGISTRATION", "closed")]).await;
    let made = create_admin(&world.accounts, "Admin@example.org", &PASSWORD.into()).await.unwrap();
    assert!(matches!(made, AdminCreated::Created(ref user) if user.role == Role::Admin && user.email == "admin@example.org"));
    let again = create_admin(&world.accounts, "admin@example.org", &"another password".into()).await.unwrap();
    assert!(matches!(again, AdminCreated::Existed(_)));
    assert!(world.login("admin@example.org", PASSWORD).await.is_ok());
    assert_eq!(create_admin(&world.accounts, "x", &"short".into()).await.unwrap_err().fields.len(), 2);
}

#[tokio::test]
async fn a_token_for_a_user_lives_as_long_as_was_asked() {
    let world = World::new().await;
    let session = world.register("ada@example.org").await;
    let token = issue_token(&world.accounts, "ada@example.org", Duration::hours(8)).await.unwrap();
    assert_eq!(world.accounts.authenticate(&token, HERE).await.unwrap().user_id, session.user.id);
    world.advance(Duration::hours(8));
    assert_eq!(world.refused(&token).await, Code::TokenExpired);
    let error = issue_token(&world.accounts, "ada@example.org", Duration::days(2)).await.unwrap_err();
    assert_eq!(error.code, Code::ValidationFailed);
    assert_eq!(issue_token(&world.accounts, "eve@example.org", Duration::hours(1)).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn the_audit_log_is_for_administrators_newest_first() {
    let world = World::new().await;
    let admin = world.register_as("admin@example.org", Role::Admin).await;
    let ada = world.caller(&world.register("ada@example.org").await).await;
    let page = page_request(Some(2), None).unwrap();
    assert_eq!(list_audit(&world.accounts, &ada, &page).await.unwrap_err().code, Code::InsufficientScope);
    let first = list_audit(&world.accounts, &world.caller(&admin).await, &page).await.unwrap();
    assert_eq!(first.items.iter().map(|entry| entry.action.as_str()).collect::<Vec<_>>(), ["register", "login"]);
    let next = page_request(Some(2), first.next_cursor.as_deref()).unwrap();
    let second = list_audit(&world.accounts, &world.caller(&admin).await, &next).await.unwrap();
    assert_eq!((second.items.len(), second.next_cursor), (1, None));
}

#[tokio::test]
async fn pruning_removes_what_ended_a_week_ago() {
    let world = World::new().await;
    let session = world.register("ada@example.org").await;
    assert_eq!(prune(&world.accounts.ctx, 100).await.unwrap(), 0);
    world.refresh(&session.refresh_token).await.unwrap();
    world.advance(Duration::days(38));
    assert_eq!(prune(&world.accounts.ctx, 100).await.unwrap(), 1);
    assert_eq!(world.refresh(&session.refresh_token).await.unwrap_err(), Code::InvalidRefreshToken);
}
