//! Making an account.

use crate::world::{World, new_user, secret};
use shared::{
    Code, Role,
    accounts::{Origin, input::NewUser, register::register},
};

#[tokio::test]
async fn a_new_account_is_signed_in_as_a_user() {
    let world = World::new().await;
    let session = world.register("Ada@Example.org").await;
    assert_eq!((session.user.email.as_str(), session.user.role, session.expires_in), ("ada@example.org", Role::User, 900));
    assert_eq!(world.caller(&session).await.user_id, session.user.id);
    assert_eq!(world.audited().await, ["register"]);
}

#[tokio::test]
async fn an_address_is_taken_whatever_its_case() {
    let world = World::new().await;
    world.register("ada@example.org").await;
    let error = register(&world.accounts, &new_user("ADA@example.org"), &Origin::default()).await.unwrap_err();
    assert_eq!(error.code, Code::EmailTaken);
}

#[tokio::test]
async fn of_two_at_once_one_gets_the_address() {
    let world = World::new().await;
    let (new, origin) = (new_user("ada@example.org"), Origin::default());
    let (a, b) = tokio::join!(register(&world.accounts, &new, &origin), register(&world.accounts, &new, &origin));
    let codes: Vec<_> = [a, b].into_iter().filter_map(|result| result.err().map(|error| error.code)).collect();
    assert_eq!(codes, [Code::EmailTaken]);
}

#[tokio::test]
async fn all_broken_rules_are_told_at_once() {
    let world = World::new().await;
    let new = NewUser { email: "ada".to_owned(), password: secret("password"), display_name: Some("a\nb".to_owned()) };
    let error = register(&world.accounts, &new, &Origin::default()).await.unwrap_err();
    let broken: Vec<_> = error.fields.iter().map(|field| (field.pointer.as_str(), field.code.as_str())).collect();
    assert_eq!(broken, [("/display_name", "characters"), ("/email", "email"), ("/password", "common")]);
    assert!(!format!("{error:?}").contains("\"password\""), "the password is not repeated");
}

#[tokio::test]
async fn an_address_is_no_password() {
    let world = World::new().await;
    let new = NewUser { password: secret("Ada.Lovelace"), ..new_user("ada.lovelace@example.org") };
    let error = register(&world.accounts, &new, &Origin::default()).await.unwrap_err();
    assert_eq!((error.fields[0].pointer.as_str(), error.fields[0].code.as_str()), ("/password", "common"));
}

#[tokio::test]
async fn a_closed_registration_refuses() {
    let world = World::with(&[("REGISTRATION", "closed")]).await;
    let error = register(&world.accounts, &new_user("ada@example.org"), &Origin::default()).await.unwrap_err();
    assert_eq!(error.code, Code::RegistrationClosed);
}
