//! Which tokens let whom in, and that what has expired is told apart from what is no good.

use super::*;
use crate::{
    accounts::{
        Accounts, Origin, Session,
        api_keys::create_api_key,
        input::{NewApiKey, NewUser, Secret},
        register, sessions,
    },
    limits::Limiter,
    testing::TestStores,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json as value};
use std::net::{IpAddr, Ipv4Addr};

const SECRET: &str = "a secret that we share with another backend";
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct Tokens {
    accounts: Accounts,
    _stores: TestStores,
}

impl Tokens {
    async fn open(overrides: &[(&str, &str)]) -> Self {
        let stores = TestStores::create().await;
        let ctx = stores.context(&[&[("CHANNEL_TOKEN_HMAC_SECRET", SECRET)], overrides].concat());
        Self { accounts: Accounts::open(ctx, Limiter::new(100)).await.unwrap(), _stores: stores }
    }

    fn now(&self) -> i64 {
        self.accounts.ctx.clock.now().unix_timestamp()
    }

    async fn admit(&self, token: &str) -> Result<Admission, TokenError> {
        admit(&self.accounts, Some(token), HERE).await
    }

    /// What the token is refused for.
    async fn refusal(&self, token: &str) -> TokenError {
        self.admit(token).await.unwrap_err()
    }

    async fn register(&self) -> Session {
        let new = NewUser { email: "ada@example.org".to_owned(), password: Secret("correct horse battery".into()), display_name: None };
        register::register(&self.accounts, &new, &Origin::default()).await.unwrap()
    }
}

fn signed_with(secret: &str, algorithm: Algorithm, claims: &Value) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

fn signed(claims: &Value) -> String {
    signed_with(SECRET, Algorithm::HS256, claims)
}

#[tokio::test]
async fn our_access_token_connects_its_user_until_it_ends_or_is_revoked() {
    let tokens = Tokens::open(&[]).await;
    let session = tokens.register().await;
    let admission = tokens.admit(&session.access_token).await.unwrap();
    let user = session.user.id.to_string();
    assert_eq!((&*admission.subject.user, admission.subscriptions.len()), (user.as_str(), 1));
    assert_eq!(admission.subscriptions[0].channel.as_str(), format!("user:#{user}"));
    assert!(admission.subject.expires_at.unwrap() > tokens.accounts.ctx.clock.now());
    assert!(!admission.subject.is_revoked(&tokens.accounts));

    let Authority::Account(proof) = &admission.subject.authority else { panic!() };
    sessions::logout(&tokens.accounts, &proof.caller, &session.refresh_token.as_str().into(), &Origin::default()).await.unwrap();
    assert!(admission.subject.is_revoked(&tokens.accounts));
    assert!(matches!(tokens.refusal(&session.access_token).await, TokenError::Invalid));
}

#[tokio::test]
async fn our_access_token_that_has_expired_is_told_so() {
    let tokens = Tokens::open(&[]).await;
    let session = tokens.register().await;
    tokens.accounts.ctx.clock.advance(time::Duration::hours(1));
    assert!(matches!(tokens.refusal(&session.access_token).await, TokenError::Expired));
}

#[tokio::test]
async fn an_api_key_connects_with_its_scopes() {
    let tokens = Tokens::open(&[]).await;
    let session = tokens.register().await;
    let caller = tokens.accounts.authenticate(&session.access_token, HERE).await.unwrap();
    let mut tx = tokens.accounts.ctx.pg.begin().await.unwrap();
    let new = NewApiKey { name: "k".to_owned(), scopes: vec![crate::Scope::JobsRead], expires_at: None };
    let key = create_api_key(&tokens.accounts, &mut tx, &caller, &new, &Origin::default()).await.unwrap().key.unwrap();
    tx.commit().await.unwrap();
    let admission = tokens.admit(&key).await.unwrap();
    assert!(admission.subscriptions.is_empty() && admission.subject.expires_at.is_none());
    let chat = tokens.accounts.ctx.namespaces.resolve("chat:1").unwrap();
    let refused = may(&tokens.accounts.ctx, &admission.subject, &chat, Action::Subscribe, Membership::Outside).await;
    assert!(matches!(refused, Err(ChannelError::PermissionDenied)));
    assert!(matches!(tokens.refusal("mr_nothing").await, TokenError::Invalid));
}

#[tokio::test]
async fn a_token_of_another_backend_says_who_connects_and_to_what() {
    let tokens = Tokens::open(&[]).await;
    let claims = value!({
        "sub": "42", "exp": tokens.now() + 60, "info": {"name": "Ada"},
        "channels": ["chat:1", "chat:2"], "subs": {"chat:2": {"info": {"n": 1}, "b64data": "eyJkIjoxfQ=="}},
        "caps": [{"channels": ["news:*"], "match": "wildcard", "allow": ["sub", "hst"]}, {"channels": ["x"], "match": "regex", "allow": ["pub"]}],
    });
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let admission = tokens.admit(&signed_with(SECRET, algorithm, &claims)).await.unwrap();
        assert_eq!((&*admission.subject.user, admission.subject.expires_at.unwrap().unix_timestamp()), ("42", tokens.now() + 60));
        assert_eq!(admission.subject.conn_info.unwrap().get(), r#"{"name":"Ada"}"#);
        let [one, two] = &admission.subscriptions[..] else { panic!() };
        assert_eq!((one.channel.as_str(), one.chan_info.is_none()), ("chat:1", true));
        assert_eq!(two.chan_info.as_ref().unwrap().get(), r#"{"n":1}"#);
        assert_eq!(two.data.as_ref().unwrap().get(), r#"{"d":1}"#);
        let Authority::Token(capabilities) = &admission.subject.authority else { panic!() };
        let allow = vec![Action::Subscribe, Action::ReadHistory];
        assert_eq!(capabilities[..], [Capability { channels: vec![Pattern::Wildcard("news:*".to_owned())], allow }]);
    }
}

#[tokio::test]
async fn tokens_that_are_forged_or_out_of_time_are_told_apart() {
    let tokens = Tokens::open(&[]).await;
    let good = value!({"sub": "42"});
    assert!(tokens.admit(&signed(&good)).await.unwrap().subject.expires_at.is_none());
    assert!(matches!(tokens.refusal(&signed(&value!({"sub": "42", "exp": tokens.now()}))).await, TokenError::Expired));
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiI0MiJ9.";
    let outlives = value!({"sub": "42", "exp": tokens.now() + 60, "expire_at": 0});
    assert!(tokens.admit(&signed(&outlives)).await.unwrap().subject.expires_at.is_none());
    for forged in [
        signed_with("another secret of at least thirty-two bytes", Algorithm::HS256, &good),
        signed(&value!({"sub": "42", "nbf": tokens.now() + 60})),
        signed(&value!({"sub": 42})),
        signed(&value!({"sub": "42", "channels": [""]})),
        signed(&value!({"sub": "42", "exp": 1e300})),
        format!("{}x", signed(&good)),
        none.to_owned(),
        "x".repeat(9_000),
        "no token".to_owned(),
    ] {
        assert!(matches!(tokens.refusal(&forged).await, TokenError::Invalid), "{forged}");
    }
}

#[tokio::test]
async fn without_a_token_only_those_are_let_in_who_may_be_anonymous() {
    let open = Tokens::open(&[("WS_ANONYMOUS", "on")]).await;
    assert!(matches!(admit(&open.accounts, None, HERE).await.unwrap().subject.authority, Authority::Anonymous));
    let closed = Tokens::open(&[("WS_ANONYMOUS", "off")]).await;
    assert!(matches!(admit(&closed.accounts, Some(""), HERE).await, Err(TokenError::Missing)));
    let insecure = Tokens::open(&[("REALTIME_INSECURE", "on")]).await;
    assert!(matches!(admit(&insecure.accounts, None, HERE).await.unwrap().subject.authority, Authority::Insecure));
    let old = signed_with("whatever", Algorithm::HS256, &value!({"sub": "42", "exp": 1}));
    let admission = insecure.admit(&old).await.unwrap();
    assert_eq!((&*admission.subject.user, admission.subject.expires_at), ("42", None));
}

#[tokio::test]
async fn a_subscription_token_counts_for_its_user_channel_and_time() {
    let tokens = Tokens::open(&[]).await;
    let subject = tokens.admit(&signed(&value!({"sub": "42"}))).await.unwrap().subject;
    let verify = |claims: &Value| verify_subscription_token(&tokens.accounts, &subject, "c1", &signed(claims));
    let grant = verify(&value!({"sub": "42", "channel": "$chat:1", "exp": tokens.now() + 60, "info": {"n": 1}})).unwrap();
    assert_eq!((grant.channel.as_str(), grant.chan_info.unwrap().get()), ("$chat:1", r#"{"n":1}"#));
    assert_eq!(grant.expires_at.unwrap().unix_timestamp(), tokens.now() + 60);
    assert!(verify(&value!({"sub": "42", "channel": "chat:1", "client": "c1"})).is_ok());
    let expired = verify(&value!({"sub": "42", "channel": "chat:1", "exp": tokens.now()}));
    assert!(matches!(expired, Err(TokenError::Expired)));
    for other in [
        value!({"sub": "43", "channel": "chat:1"}),
        value!({"channel": "chat:1"}),
        value!({"sub": "42"}),
        value!({"sub": "42", "channel": "chat:1", "client": "c2"}),
    ] {
        assert!(matches!(verify(&other), Err(TokenError::Invalid)), "{other}");
    }
    let ours = tokens.register().await.access_token;
    assert!(matches!(verify_subscription_token(&tokens.accounts, &subject, "c1", &ours), Err(TokenError::Invalid)));
}
