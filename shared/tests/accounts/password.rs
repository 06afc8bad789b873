//! Changing and resetting a password.

use crate::world::{PASSWORD, World, secret};
use secrecy::ExposeSecret;
use shared::{
    Code, Error,
    accounts::{
        Origin, Session,
        input::{ForgottenPassword, PasswordChange, PasswordReset},
        password::change_password,
        reset::{forgot_password, issue_reset, reset_password},
    },
};
use time::Duration;

const NEW: &str = "staple correct horse";

async fn change(world: &World, session: &Session, current: &str, new: &str) -> Result<Session, Error> {
    let change = PasswordChange { current_password: secret(current), new_password: secret(new) };
    change_password(&world.accounts, &world.caller(session).await, &change, &Origin::default()).await
}

#[tokio::test]
async fn a_change_ends_the_other_sessions_and_renews_the_current_one() {
    let world = World::new().await;
    let (here, there) = (world.register("ada@example.org").await, world.login("ada@example.org", PASSWORD).await.unwrap());
    let fresh = change(&world, &here, PASSWORD, NEW).await.unwrap();
    assert_eq!(world.caller(&fresh).await.user_id, here.user.id);
    assert!(world.refresh(&fresh.refresh_token).await.is_ok());
    for session in [&here, &there] {
        assert_eq!(world.refused(&session.access_token).await, Code::InvalidToken);
    }
    assert_eq!(world.refresh(&there.refresh_token).await.unwrap_err(), Code::InvalidRefreshToken);
    assert_eq!(world.login("ada@example.org", PASSWORD).await.unwrap_err(), Code::InvalidCredentials);
    assert!(world.login("ada@example.org", NEW).await.is_ok());
}

#[tokio::test]
async fn a_change_needs_the_current_password_and_a_good_new_one() {
    let world = World::new().await;
    let session = world.register("ada@example.org").await;
    for (current, new, code) in [("not my password", NEW, Code::Forbidden), (PASSWORD, "password", Code::ValidationFailed)] {
        assert_eq!(change(&world, &session, current, new).await.unwrap_err().code, code);
    }
    assert!(world.login("ada@example.org", PASSWORD).await.is_ok());
}

async fn token_for(world: &World, email: &str) -> String {
    issue_reset(&world.accounts.ctx, email, &Origin::default()).await.unwrap().unwrap().expose_secret().to_owned()
}

async fn reset(world: &World, token: &str) -> Result<(), Code> {
    let reset = PasswordReset { token: secret(token), new_password: secret(NEW) };
    reset_password(&world.accounts, &reset, &Origin::default()).await.map_err(|error| error.code)
}

#[tokio::test]
async fn a_reset_sets_the_password_and_ends_everything() {
    let world = World::new().await;
    let session = world.register("ada@example.org").await;
    reset(&world, &token_for(&world, "Ada@example.org").await).await.unwrap();
    assert_eq!(world.refused(&session.access_token).await, Code::InvalidToken);
    assert_eq!(world.refresh(&session.refresh_token).await.unwrap_err(), Code::InvalidRefreshToken);
    assert!(world.login("ada@example.org", NEW).await.is_ok());
    assert_eq!(world.audited().await, ["register", "password_reset_issued", "password_reset", "login"]);
}

#[tokio::test]
async fn a_reset_token_is_good_once_and_takes_the_others_with_it() {
    let world = World::new().await;
    world.register("ada@example.org").await;
    let (one, two) = (token_for(&world, "ada@example.org").await, token_for(&world, "ada@example.org").await);
    let (a, b) = tokio::join!(reset(&world, &one), reset(&world, &one));
    assert_eq!([a, b].iter().filter(|result| result.is_ok()).count(), 1);
    for token in [&one, &two] {
        assert_eq!(reset(&world, token).await.unwrap_err(), Code::InvalidToken);
    }
}

#[tokio::test]
async fn a_reset_token_ends_after_thirty_minutes_and_cannot_be_guessed() {
    let world = World::new().await;
    world.register("ada@example.org").await;
    let token = token_for(&world, "ada@example.org").await;
    let forged = format!("{}{}", &token[..token.len() - 43], "a".repeat(43));
    assert_eq!(reset(&world, &forged).await.unwrap_err(), Code::InvalidToken);
    world.advance(Duration::minutes(30));
    assert_eq!(reset(&world, &token).await.unwrap_err(), Code::InvalidToken);
}

#[tokio::test]
async fn asking_for_a_reset_tells_nothing() {
    let world = World::new().await;
    world.register("ada@example.org").await;
    for email in ["ada@example.org", "eve@example.org"] {
        let forgotten = ForgottenPassword { email: email.to_owned() };
        assert!(forgot_password(&world.accounts, &forgotten, &Origin::default()).await.is_ok());
    }
    assert!(issue_reset(&world.accounts.ctx, "eve@example.org", &Origin::default()).await.unwrap().is_none());
}
