//! Refresh tokens: single use, a grace for lost answers, and the family's end at reuse.

use crate::world::World;
use shared::Code;
use time::Duration;

#[tokio::test]
async fn a_refresh_gives_the_next_token_and_a_fresh_access_token() {
    let world = World::new().await;
    let first = world.register("ada@example.org").await;
    world.advance(Duration::minutes(20));
    assert_eq!(world.refused(&first.access_token).await, Code::TokenExpired);
    let second = world.refresh(&first.refresh_token).await.unwrap();
    assert_ne!(second.refresh_token, first.refresh_token);
    assert_eq!(world.caller(&second).await.user_id, first.user.id);
    assert!(world.refresh(&second.refresh_token).await.is_ok());
}

#[tokio::test]
async fn within_the_grace_the_same_successor_is_given_again() {
    let world = World::new().await;
    let first = world.register("ada@example.org").await;
    let second = world.refresh(&first.refresh_token).await.unwrap();
    // Half of the ten seconds, because the clock runs on while the test does.
    world.advance(Duration::seconds(5));
    let again = world.refresh(&first.refresh_token).await.unwrap();
    assert_eq!(again.refresh_token, second.refresh_token);
    assert!(world.refresh(&second.refresh_token).await.is_ok());
}

#[tokio::test]
async fn eight_at_once_get_the_same_successor() {
    let world = World::new().await;
    let first = world.register("ada@example.org").await;
    let all = futures_util::future::join_all((0..8).map(|_| world.refresh(&first.refresh_token))).await;
    let successors: Vec<_> = all.into_iter().map(|session| session.unwrap().refresh_token).collect();
    assert!(successors.iter().all(|token| *token == successors[0]), "{successors:?}");
}

#[tokio::test]
async fn reuse_after_the_grace_ends_the_family() {
    let world = World::new().await;
    let first = world.register("ada@example.org").await;
    let second = world.refresh(&first.refresh_token).await.unwrap();
    world.advance(Duration::seconds(11));
    assert_eq!(world.refresh(&first.refresh_token).await.unwrap_err(), Code::InvalidRefreshToken);
    assert_eq!(world.refresh(&second.refresh_token).await.unwrap_err(), Code::InvalidRefreshToken);
    assert_eq!(world.refused(&second.access_token).await, Code::InvalidToken);
    assert_eq!(world.audited().await, ["register", "refresh_reused"]);
}

#[tokio::test]
async fn an_older_generation_ends_the_family_even_within_the_grace() {
    let world = World::new().await;
    let first = world.register("ada@example.org").await;
    let second = world.refresh(&first.refresh_token).await.unwrap();
    let third = world.refresh(&second.refresh_token).await.unwrap();
    assert_eq!(world.refresh(&first.refresh_token).await.unwrap_err(), Code::InvalidRefreshToken);
    assert_eq!(world.refresh(&third.refresh_token).await.unwrap_err(), Code::InvalidRefreshToken);
}

#[tokio::test]
async fn a_forged_token_is_refused_and_does_no_harm() {
    let world = World::new().await;
    let first = world.register("ada@example.org").await;
    let second = world.refresh(&first.refresh_token).await.unwrap();
    world.advance(Duration::seconds(11));
    // The old generation with a MAC of nobody's.
    let (head, mac) = first.refresh_token.split_at(first.refresh_token.len() - 43);
    let forged = format!("{head}{}", "A".repeat(mac.len()));
    assert_eq!(world.refresh(&forged).await.unwrap_err(), Code::InvalidRefreshToken);
    assert!(world.refresh(&second.refresh_token).await.is_ok());
}

#[tokio::test]
async fn access_and_refresh_tokens_do_not_stand_in_for_each_other() {
    let world = World::new().await;
    let session = world.register("ada@example.org").await;
    assert_eq!(world.refused(&session.refresh_token).await, Code::InvalidToken);
    assert_eq!(world.refresh(&session.access_token).await.unwrap_err(), Code::InvalidRefreshToken);
}

#[tokio::test]
async fn an_unused_session_ends() {
    let world = World::new().await;
    let session = world.register("ada@example.org").await;
    world.advance(Duration::days(30) + Duration::seconds(1));
    assert_eq!(world.refresh(&session.refresh_token).await.unwrap_err(), Code::InvalidRefreshToken);
    assert_eq!(world.audited().await, ["register"], "its end is no theft");
}

#[tokio::test]
async fn the_grace_does_not_reach_past_a_revocation() {
    let world = World::new().await;
    let first = world.register("ada@example.org").await;
    let second = world.refresh(&first.refresh_token).await.unwrap();
    let caller = world.caller(&second).await;
    let token = second.refresh_token.as_str().into();
    shared::accounts::sessions::logout(&world.accounts, &caller, &token, &Default::default()).await.unwrap();
    assert_eq!(world.refresh(&first.refresh_token).await.unwrap_err(), Code::InvalidRefreshToken);
    assert_eq!(world.refresh(&second.refresh_token).await.unwrap_err(), Code::InvalidRefreshToken);
}
