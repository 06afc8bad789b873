//! Who may do what, by the rules that are shipped and by a channel's own audience.

use super::*;
use crate::{
    Caller, Role, Scope,
    accounts::Proof,
    caller::{Credential, Scopes},
    ids::{SessionId, UserId},
    jobs::submit as submitting,
};

fn account(role: Role, scopes: Scopes) -> Subject {
    let caller = Caller::new(UserId::new(), role, scopes, Credential::Session(SessionId::new()));
    let proof = Proof { caller, version: 1, ends_at: None };
    Subject { user: caller.user_id.to_string().into(), authority: Authority::Account(proof), ..Subject::anonymous() }
}

fn of_role(role: Role) -> Subject {
    account(role, role.scopes())
}

fn token(user: &str, capabilities: &[Capability]) -> Subject {
    Subject { user: user.into(), authority: Authority::Token(capabilities.into()), ..Subject::anonymous() }
}

impl Channels {
    async fn allows(&self, subject: &Subject, channel: &str, action: Action, membership: Membership) -> bool {
        match may(&self.ctx, subject, &self.channel(channel), action, membership).await {
            Ok(()) => true,
            Err(ChannelError::PermissionDenied) => false,
            Err(error) => panic!("{error:?}"),
        }
    }

    async fn opens(&self, subject: &Subject, channel: &str) -> bool {
        self.allows(subject, channel, Action::Subscribe, Membership::Outside).await
    }
}

#[tokio::test]
async fn each_shipped_namespace_opens_to_whom_it_says() {
    let channels = Channels::open().await;
    let (nobody, other, operator) = (Subject::anonymous(), token("42", &[]), of_role(Role::Operator));
    let ours = of_role(Role::User);
    let personal = format!("user:#{}", ours.user);
    for (channel, expected) in [
        ("public:1", [true, true, true, true]),
        ("chat:1", [false, true, true, true]),
        ("$chat:1", [false, false, false, true]),
        ("system", [false, true, true, true]),
        ("track:1", [false, false, false, true]),
        ("user:#42", [false, true, false, true]),
        ("user:#41,42", [false, true, false, true]),
        (personal.as_str(), [false, false, true, true]),
        ("user:42", [false, false, false, true]),
        ("kept:1", [false, false, false, true]),
    ] {
        let mut opens = Vec::new();
        for subject in [&nobody, &other, &ours, &operator] {
            opens.push(channels.opens(subject, channel).await);
        }
        assert_eq!(opens, expected, "{channel}");
    }
}

#[tokio::test]
async fn members_may_more_than_those_outside() {
    let channels = Channels::open().await;
    let ours = of_role(Role::User);
    for action in [Action::Publish, Action::ReadHistory, Action::ReadPresence] {
        assert!(channels.allows(&ours, "chat:1", action, Membership::Subscribed).await, "{action:?}");
        assert!(!channels.allows(&ours, "chat:1", action, Membership::Outside).await, "{action:?}");
    }
    assert!(!channels.allows(&ours, "public:1", Action::Publish, Membership::Subscribed).await);
}

#[tokio::test]
async fn only_admins_publish_to_all() {
    let channels = Channels::open().await;
    for (role, expected) in [(Role::User, false), (Role::Operator, false), (Role::Admin, true)] {
        let is_allowed = channels.allows(&of_role(role), "system", Action::Publish, Membership::Subscribed).await;
        assert_eq!(is_allowed, expected, "{role:?}");
    }
}

#[tokio::test]
async fn a_key_may_only_what_its_scopes_say() {
    let channels = Channels::open().await;
    let reads = account(Role::User, Scopes::default().with(Scope::ChannelsRead));
    assert!(channels.opens(&reads, "chat:1").await);
    assert!(!channels.allows(&reads, "chat:1", Action::Publish, Membership::Subscribed).await);
    let writes = account(Role::Operator, Scopes::default().with(Scope::ChannelsPublish));
    assert!(!channels.opens(&writes, "chat:1").await);
    assert!(channels.allows(&writes, "public:1", Action::Publish, Membership::Outside).await);
}

#[tokio::test]
async fn a_capability_allows_what_it_names_and_nothing_else() {
    let channels = Channels::open().await;
    let capability = Capability { channels: vec![Pattern::Wildcard("kept:*".to_owned())], allow: vec![Action::Subscribe, Action::Publish] };
    let subject = token("42", &[capability]);
    assert!(channels.opens(&subject, "kept:1").await);
    assert!(channels.allows(&subject, "kept:1", Action::Publish, Membership::Outside).await);
    assert!(!channels.allows(&subject, "kept:1", Action::ReadHistory, Membership::Outside).await);
    assert!(!channels.opens(&subject, "live:1").await);
}

#[tokio::test]
async fn a_job_is_watched_by_those_who_may_see_it() {
    let channels = Channels::open().await;
    let (owner, stranger, operator) = (of_role(Role::User), of_role(Role::User), of_role(Role::Operator));
    let Authority::Account(proof) = &owner.authority else { panic!() };
    let body = serde_json::from_str("{\"kind\":\"debug.echo\"}").unwrap();
    let job = submitting::prepare(&channels.ctx, &proof.caller, body, crate::jobs::Origin::default()).await.unwrap();
    let job = submitting::submit(&channels.ctx, job).await.unwrap();
    let channel = format!("job:{}", job.id);
    assert!(channels.opens(&owner, &channel).await && channels.opens(&operator, &channel).await);
    assert!(!channels.opens(&stranger, &channel).await && !channels.opens(&token("42", &[]), &channel).await);
    assert!(!channels.opens(&owner, "job:1").await && !channels.opens(&owner, &format!("job:{}", UserId::new())).await);
    assert!(channels.opens(&stranger, "queue:default").await && !channels.opens(&stranger, "queue:nowhere").await);
    let blind = account(Role::User, Scopes::default().with(Scope::ChannelsRead));
    assert!(!channels.opens(&blind, "queue:default").await);
}

#[tokio::test]
async fn insecure_realtime_allows_everything() {
    let stores = crate::testing::TestStores::create().await;
    let ctx = with_namespaces(stores.context(&[("REALTIME_INSECURE", "on")]));
    let channels = Channels { ctx, stores };
    assert!(channels.opens(&Subject::anonymous(), "$chat:1").await);
    assert!(channels.allows(&Subject::anonymous(), "system", Action::Publish, Membership::Outside).await);
}
