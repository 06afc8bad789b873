//! API keys: made, used, revoked.

use crate::world::{HERE, World, eventually};
use shared::{
    Caller, Code, Error, Role, Scope,
    accounts::{
        ApiKey, Origin, Session,
        api_keys::{create_api_key, list_api_keys, revoke_api_key},
        input::{NewApiKey, UserChange},
        users::change_user,
    },
    caller::Credential,
    page::page_request,
};
use time::{Duration, OffsetDateTime};
use tokio_util::sync::CancellationToken;

async fn create(world: &World, caller: &Caller, scopes: &[Scope], expires_at: Option<OffsetDateTime>) -> Result<ApiKey, Error> {
    let new = NewApiKey { name: "import".to_owned(), scopes: scopes.to_vec(), expires_at };
    let mut tx = world.accounts.ctx.pg.begin().await?;
    let key = create_api_key(&world.accounts, &mut tx, caller, &new, &Origin::default()).await?;
    tx.commit().await?;
    Ok(key)
}

async fn user_with_key(world: &World) -> (Session, ApiKey, String) {
    let session = world.register("ada@example.org").await;
    let key = create(world, &world.caller(&session).await, &[Scope::JobsRead], None).await.unwrap();
    let text = key.key.clone().unwrap();
    (session, key, text)
}

#[tokio::test]
async fn a_key_calls_for_its_user_with_its_scopes_only() {
    let world = World::new().await;
    let (session, key, text) = user_with_key(&world).await;
    let caller = world.accounts.authenticate(&text, HERE).await.unwrap();
    assert_eq!((caller.user_id, caller.credential), (session.user.id, Credential::ApiKey(key.id)));
    assert!(caller.require(Scope::JobsRead).is_ok());
    assert_eq!(caller.require(Scope::JobsWrite).unwrap_err().code, Code::InsufficientScope);
    assert_eq!(create(&world, &caller, &[Scope::JobsRead], None).await.unwrap_err().code, Code::Forbidden);
}

#[tokio::test]
async fn the_secret_is_shown_once_and_not_stored() {
    let world = World::new().await;
    let (session, _, text) = user_with_key(&world).await;
    let page = list_api_keys(&world.accounts, &world.caller(&session).await, &page_request(None, None).unwrap()).await.unwrap();
    assert!(page.items[0].key.is_none() && text.starts_with(&page.items[0].prefix));
    let row: serde_json::Value =
        sqlx::query_scalar("SELECT to_jsonb(api_keys) FROM api_keys").fetch_one(&world.accounts.ctx.pg).await.unwrap();
    assert!(!row.to_string().contains(text.rsplit('_').next().unwrap()));
}

#[tokio::test]
async fn scopes_beyond_the_role_and_ends_in_the_past_are_refused() {
    let world = World::new().await;
    let caller = world.caller(&world.register("ada@example.org").await).await;
    let past = Some(world.accounts.ctx.clock.now() - Duration::seconds(1));
    for (scopes, expires_at, code) in [
        (&[Scope::JobsRead, Scope::Admin][..], None, Code::InsufficientScope),
        (&[], None, Code::ValidationFailed),
        (&[Scope::JobsRead], past, Code::Conflict),
    ] {
        assert_eq!(create(&world, &caller, scopes, expires_at).await.unwrap_err().code, code);
    }
}

#[tokio::test]
async fn a_user_has_so_many_keys_and_no_more() {
    let world = World::with(&[("API_KEYS_MAX", "2")]).await;
    let caller = world.caller(&world.register("ada@example.org").await).await;
    let scopes = [Scope::JobsRead];
    let tries = futures_util::future::join_all((0..4).map(|_| create(&world, &caller, &scopes, None))).await;
    let refused: Vec<_> = tries.into_iter().filter_map(|result| result.err().map(|error| error.code)).collect();
    assert_eq!(refused, [Code::Conflict, Code::Conflict]);
}

#[tokio::test]
async fn forged_keys_are_refused() {
    let world = World::new().await;
    let (_, _, text) = user_with_key(&world).await;
    let (head, secret) = text.split_at(text.len() - 43);
    for wrong in [format!("{head}{}", "a".repeat(secret.len())), head.to_owned(), format!("{text}a"), text.to_uppercase()] {
        assert_eq!(world.refused(&wrong).await, Code::InvalidToken, "{wrong}");
    }
}

#[tokio::test]
async fn a_key_ends_when_it_says_even_when_it_was_cached() {
    let world = World::new().await;
    let caller = world.caller(&world.register("ada@example.org").await).await;
    let expires_at = Some(world.accounts.ctx.clock.now() + Duration::seconds(30));
    let text = create(&world, &caller, &[Scope::JobsRead], expires_at).await.unwrap().key.unwrap();
    assert!(world.accounts.authenticate(&text, HERE).await.is_ok());
    world.advance(Duration::seconds(30));
    assert_eq!(world.refused(&text).await, Code::InvalidToken);
}

#[tokio::test]
async fn a_cached_key_needs_no_database_for_a_minute() {
    let world = World::new().await;
    let (_, _, text) = user_with_key(&world).await;
    assert!(world.accounts.authenticate_at_once(&text).unwrap().is_none());
    assert!(world.accounts.authenticate(&text, HERE).await.is_ok());
    assert!(world.accounts.authenticate_at_once(&text).unwrap().is_some());
    world.advance(Duration::seconds(60));
    assert!(world.accounts.authenticate_at_once(&text).unwrap().is_none());
}

#[tokio::test]
async fn a_revoked_key_is_out_at_once_for_its_owner_alone_to_revoke() {
    let world = World::new().await;
    let (session, key, text) = user_with_key(&world).await;
    assert!(world.accounts.authenticate(&text, HERE).await.is_ok());
    let eve = world.caller(&world.register("eve@example.org").await).await;
    let origin = Origin::default();
    assert_eq!(revoke_api_key(&world.accounts, &eve, key.id, &origin).await.unwrap_err().code, Code::NotFound);
    let ada = world.caller(&session).await;
    revoke_api_key(&world.accounts, &ada, key.id, &origin).await.unwrap();
    assert_eq!(world.refused(&text).await, Code::InvalidToken);
    assert_eq!(revoke_api_key(&world.accounts, &ada, key.id, &origin).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn keys_of_a_disabled_user_rest_until_the_user_is_back() {
    let world = World::new().await;
    let admin = world.register_as("admin@example.org", Role::Admin).await;
    let (admin, (session, _, text)) = (world.caller(&admin).await, user_with_key(&world).await);
    assert!(world.accounts.authenticate(&text, HERE).await.is_ok());
    for (disabled, is_good) in [(true, false), (false, true)] {
        let change = UserChange { role: None, disabled: Some(disabled) };
        change_user(&world.accounts, &admin, (session.user.id, change), |_| Ok(()), &Origin::default()).await.unwrap();
        assert_eq!(world.accounts.authenticate(&text, HERE).await.is_ok(), is_good);
    }
}

#[tokio::test]
async fn a_demoted_users_key_loses_what_the_role_no_longer_allows() {
    let world = World::new().await;
    let admin = world.register_as("admin@example.org", Role::Admin).await;
    let ada = world.register_as("ada@example.org", Role::Operator).await;
    let text = create(&world, &world.caller(&ada).await, &[Scope::Workers, Scope::JobsRead], None).await.unwrap().key.unwrap();
    assert!(world.accounts.authenticate(&text, HERE).await.unwrap().require(Scope::Workers).is_ok());
    let change = UserChange { role: Some(Role::User), disabled: None };
    let admin = world.caller(&admin).await;
    change_user(&world.accounts, &admin, (ada.user.id, change), |_| Ok(()), &Origin::default()).await.unwrap();
    let caller = world.accounts.authenticate(&text, HERE).await.unwrap();
    assert!(caller.require(Scope::Workers).is_err() && caller.require(Scope::JobsRead).is_ok());
}

#[tokio::test]
async fn the_last_use_is_noted_off_the_requests_path() {
    let world = World::new().await;
    let (session, _, text) = user_with_key(&world).await;
    let stop = CancellationToken::new();
    let background = tokio::spawn(world.accounts.clone().run_background(stop.clone()));
    world.accounts.authenticate(&text, HERE).await.unwrap();
    let (caller, page) = (world.caller(&session).await, page_request(None, None).unwrap());
    eventually(std::time::Duration::from_secs(5), || async {
        list_api_keys(&world.accounts, &caller, &page).await.unwrap().items[0].last_used_at.is_some()
    })
    .await;
    stop.cancel();
    background.await.unwrap();
}
