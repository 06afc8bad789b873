//! Users for administrators, the last administrator, and leaving.

use crate::world::{PASSWORD, World};
use shared::{
    Caller, Code, Error, Role,
    accounts::{
        Origin, User,
        input::UserChange,
        users::{change_user, delete_me, get_me, get_user, list_users},
    },
    ids::UserId,
    page::page_request,
};

async fn change(world: &World, caller: &Caller, id: UserId, change: UserChange) -> Result<User, Error> {
    change_user(&world.accounts, caller, (id, change), |_| Ok(()), &Origin::default()).await
}

const DISABLE: UserChange = UserChange { role: None, disabled: Some(true) };
const ENABLE: UserChange = UserChange { role: None, disabled: Some(false) };

const fn make(role: Role) -> UserChange {
    UserChange { role: Some(role), disabled: None }
}

#[tokio::test]
async fn only_an_administrator_sees_and_changes_users() {
    let world = World::new().await;
    let ada = world.register("ada@example.org").await;
    let caller = world.caller(&ada).await;
    let page = page_request(None, None).unwrap();
    assert_eq!(list_users(&world.accounts, &caller, &page).await.unwrap_err().code, Code::InsufficientScope);
    assert_eq!(get_user(&world.accounts, &caller, ada.user.id).await.unwrap_err().code, Code::InsufficientScope);
    assert_eq!(change(&world, &caller, ada.user.id, make(Role::Admin)).await.unwrap_err().code, Code::InsufficientScope);
    assert_eq!(get_me(&world.accounts, &caller).await.unwrap(), ada.user);
}

#[tokio::test]
async fn users_are_listed_newest_first_page_by_page() {
    let world = World::new().await;
    let admin = world.register_as("admin@example.org", Role::Admin).await;
    let caller = world.caller(&admin).await;
    for name in ["b", "c"] {
        world.register(&format!("{name}@example.org")).await;
    }
    let first = list_users(&world.accounts, &caller, &page_request(Some(2), None).unwrap()).await.unwrap();
    let second = page_request(Some(2), first.next_cursor.as_deref()).unwrap();
    let second = list_users(&world.accounts, &caller, &second).await.unwrap();
    let emails: Vec<_> = first.items.iter().chain(&second.items).map(|user| user.email.as_str()).collect();
    assert_eq!((emails, second.next_cursor), (vec!["c@example.org", "b@example.org", "admin@example.org"], None));
}

#[tokio::test]
async fn a_disabled_user_is_out_at_once_and_comes_back_by_signing_in() {
    let world = World::new().await;
    let admin = world.register_as("admin@example.org", Role::Admin).await;
    let (ada, admin) = (world.register("ada@example.org").await, world.caller(&admin).await);
    assert!(change(&world, &admin, ada.user.id, DISABLE).await.unwrap().disabled);
    assert_eq!(world.refused(&ada.access_token).await, Code::InvalidToken);
    assert_eq!(world.refresh(&ada.refresh_token).await.unwrap_err(), Code::InvalidRefreshToken);
    change(&world, &admin, ada.user.id, ENABLE).await.unwrap();
    assert_eq!(world.refresh(&ada.refresh_token).await.unwrap_err(), Code::InvalidRefreshToken, "its sessions have ended");
    let back = world.login("ada@example.org", PASSWORD).await.unwrap();
    world.caller(&back).await;
}

#[tokio::test]
async fn a_new_role_takes_effect_with_the_next_refresh_and_the_old_token_is_dead() {
    let world = World::new().await;
    let admin = world.register_as("admin@example.org", Role::Admin).await;
    let (ada, admin) = (world.register("ada@example.org").await, world.caller(&admin).await);
    change(&world, &admin, ada.user.id, make(Role::Operator)).await.unwrap();
    assert_eq!(world.refused(&ada.access_token).await, Code::InvalidToken);
    let fresh = world.refresh(&ada.refresh_token).await.unwrap();
    assert_eq!((fresh.user.role, world.caller(&fresh).await.role), (Role::Operator, Role::Operator));
}

#[tokio::test]
async fn the_precondition_sees_the_user_as_it_stands() {
    let world = World::new().await;
    let admin = world.register_as("admin@example.org", Role::Admin).await;
    let (ada, admin) = (world.register("ada@example.org").await, world.caller(&admin).await);
    let refuse = |seen: &User| {
        assert_eq!(seen.role, Role::User);
        Err(Error::new(Code::PreconditionFailed, "not what was seen"))
    };
    let wish = (ada.user.id, make(Role::Operator));
    let error = change_user(&world.accounts, &admin, wish, refuse, &Origin::default()).await.unwrap_err();
    assert_eq!(error.code, Code::PreconditionFailed);
    assert_eq!(get_user(&world.accounts, &admin, ada.user.id).await.unwrap().role, Role::User);
}

#[tokio::test]
async fn the_last_administrator_stays() {
    let world = World::new().await;
    let session = world.register_as("admin@example.org", Role::Admin).await;
    let (id, caller) = (session.user.id, world.caller(&session).await);
    for wish in [DISABLE, make(Role::User), make(Role::Operator)] {
        assert_eq!(change(&world, &caller, id, wish).await.unwrap_err().code, Code::LastAdmin);
    }
    assert_eq!(delete_me(&world.accounts, &caller, &Origin::default()).await.unwrap_err().code, Code::LastAdmin);
    change(&world, &caller, id, make(Role::Admin)).await.unwrap();
}

#[tokio::test]
async fn two_administrators_who_leave_at_once_leave_one() {
    let world = World::new().await;
    let one = world.register_as("one@example.org", Role::Admin).await;
    let two = world.register_as("two@example.org", Role::Admin).await;
    let one_caller = world.caller(&one).await;
    let origin = Origin::default();
    let (a, b) =
        tokio::join!(delete_me(&world.accounts, &one_caller, &origin), change(&world, &one_caller, two.user.id, make(Role::User)),);
    let codes: Vec<_> = [a, b.map(|_| ())].into_iter().filter_map(|result| result.err().map(|error| error.code)).collect();
    assert_eq!(codes, [Code::LastAdmin]);
}

#[tokio::test]
async fn a_deleted_account_is_gone_and_its_address_free() {
    let world = World::new().await;
    let ada = world.register("ada@example.org").await;
    delete_me(&world.accounts, &world.caller(&ada).await, &Origin::default()).await.unwrap();
    assert_eq!(world.refused(&ada.access_token).await, Code::InvalidToken);
    assert_eq!(world.refresh(&ada.refresh_token).await.unwrap_err(), Code::InvalidRefreshToken);
    let n_rows: i64 = sqlx::query_scalar("SELECT count(*) FROM users").fetch_one(&world.accounts.ctx.pg).await.unwrap();
    assert_eq!(n_rows, 0, "of who has little nothing is left when it is answered");
    let again = world.register("ada@example.org").await;
    assert_ne!(again.user.id, ada.user.id);
    assert_eq!(world.audited().await, ["register", "account_deleted", "register"]);
}
