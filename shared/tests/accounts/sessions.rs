//! Listing and ending sessions.

use crate::world::{PASSWORD, World};
use shared::{
    Code,
    accounts::{
        Origin,
        input::Credentials,
        login::login,
        sessions::{list_sessions, logout, revoke_session},
    },
    ids::SessionId,
    page::page_request,
};

#[tokio::test]
async fn the_list_says_which_session_is_the_callers() {
    let world = World::new().await;
    world.register("ada@example.org").await;
    let origin = Origin {
        request_id: None,
        address: Some("192.0.2.7".parse().unwrap()),
        user_agent: Some(format!("Browser\u{7}{}", "x".repeat(400))),
    };
    let credentials = Credentials { email: "ada@example.org".to_owned(), password: crate::world::secret(PASSWORD) };
    let session = login(&world.accounts, &credentials, &origin).await.unwrap();
    let page = list_sessions(&world.accounts, &world.caller(&session).await, &page_request(None, None).unwrap()).await.unwrap();
    let current: Vec<_> = page.items.iter().map(|session| session.current).collect();
    assert_eq!(current, [true, false]);
    assert_eq!(page.items[0].address, origin.address);
    let user_agent = page.items[0].user_agent.as_deref().unwrap();
    assert!(user_agent.starts_with("Browserxxx") && user_agent.len() == 256, "{user_agent}");
}

#[tokio::test]
async fn a_revoked_session_is_out_and_the_others_stay() {
    let world = World::new().await;
    let (one, two) = (world.register("ada@example.org").await, world.login("ada@example.org", PASSWORD).await.unwrap());
    let (caller, victim) = (world.caller(&one).await, world.caller(&two).await);
    let id = victim.require_session().unwrap();
    revoke_session(&world.accounts, &caller, id, &Origin::default()).await.unwrap();
    assert_eq!(world.refused(&two.access_token).await, Code::InvalidToken);
    assert_eq!(world.refresh(&two.refresh_token).await.unwrap_err(), Code::InvalidRefreshToken);
    assert!(world.refresh(&one.refresh_token).await.is_ok());
    let again = revoke_session(&world.accounts, &caller, id, &Origin::default()).await.unwrap_err();
    assert_eq!(again.code, Code::NotFound);
}

#[tokio::test]
async fn another_users_session_is_not_found() {
    let world = World::new().await;
    let (ada, eve) = (world.register("ada@example.org").await, world.register("eve@example.org").await);
    let (ada, eve_caller) = (world.caller(&ada).await, world.caller(&eve).await);
    for id in [ada.require_session().unwrap(), SessionId::new()] {
        let error = revoke_session(&world.accounts, &eve_caller, id, &Origin::default()).await.unwrap_err();
        assert_eq!(error.code, Code::NotFound);
    }
}

#[tokio::test]
async fn logout_takes_the_callers_own_refresh_token_only() {
    let world = World::new().await;
    let (ada, eve) = (world.register("ada@example.org").await, world.register("eve@example.org").await);
    let caller = world.caller(&ada).await;
    let origin = Origin::default();
    for wrong in [eve.refresh_token.as_str(), "mrr_x", ""] {
        let error = logout(&world.accounts, &caller, &wrong.into(), &origin).await.unwrap_err();
        assert_eq!(error.code, Code::InvalidRefreshToken, "{wrong}");
    }
    logout(&world.accounts, &caller, &ada.refresh_token.as_str().into(), &origin).await.unwrap();
    assert_eq!(world.refused(&ada.access_token).await, Code::InvalidToken);
    assert!(world.refresh(&eve.refresh_token).await.is_ok());
    assert_eq!(world.audited().await, ["register", "register", "logout"]);
}

#[tokio::test]
async fn the_session_unused_for_longest_gives_way_to_a_new_one() {
    let world = World::with(&[("SESSIONS_MAX", "2")]).await;
    let first = world.register("ada@example.org").await;
    world.advance(time::Duration::seconds(60));
    let second = world.login("ada@example.org", PASSWORD).await.unwrap();
    world.advance(time::Duration::seconds(60));
    let first = world.refresh(&first.refresh_token).await.unwrap();
    world.advance(time::Duration::seconds(60));
    let third = world.login("ada@example.org", PASSWORD).await.unwrap();
    assert_eq!(world.refused(&second.access_token).await, Code::InvalidToken);
    assert_eq!(world.refresh(&second.refresh_token).await.unwrap_err(), Code::InvalidRefreshToken);
    world.caller(&first).await;
    world.caller(&third).await;
}
