//! What the tests share: accounts on stores of their own, and short words for what they do.

use secrecy::SecretString;
use shared::{
    Caller, Code, Role,
    accounts::{
        Accounts, Origin, Session,
        input::{Credentials, NewUser, Secret},
        login, refresh, register,
    },
    ids::UserId,
    limits::Limiter,
    testing::TestStores,
};
use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

pub(crate) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(crate) const PASSWORD: &str = "correct horse battery";

pub(crate) struct World {
    pub(crate) accounts: Accounts,
    pub(crate) stores: TestStores,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    pub(crate) async fn with(overrides: &[(&str, &str)]) -> Self {
        let stores = TestStores::create().await;
        let accounts = open(&stores, overrides).await.unwrap();
        Self { accounts, stores }
    }

    /// What a second process on the same stores would have.
    pub(crate) async fn another(&self, overrides: &[(&str, &str)]) -> Accounts {
        open(&self.stores, overrides).await.unwrap()
    }

    pub(crate) fn advance(&self, by: time::Duration) {
        self.accounts.ctx.clock.advance(by);
    }

    pub(crate) async fn register(&self, email: &str) -> Session {
        register::register(&self.accounts, &new_user(email), &Origin::default()).await.unwrap()
    }

    pub(crate) async fn login(&self, email: &str, password: &str) -> Result<Session, Code> {
        let credentials = Credentials { email: email.to_owned(), password: secret(password) };
        login::login(&self.accounts, &credentials, &Origin::default()).await.map_err(|error| error.code)
    }

    pub(crate) async fn refresh(&self, token: &str) -> Result<Session, Code> {
        refresh::refresh(&self.accounts, &SecretString::from(token), &Origin::default()).await.map_err(|error| error.code)
    }

    pub(crate) async fn caller(&self, session: &Session) -> Caller {
        self.accounts.authenticate(&session.access_token, HERE).await.unwrap()
    }

    pub(crate) async fn refused(&self, credential: &str) -> Code {
        self.accounts.authenticate(credential, HERE).await.unwrap_err().code
    }

    /// A signed-in user whom the database was told to be of `role`.
    pub(crate) async fn register_as(&self, email: &str, role: Role) -> Session {
        let session = self.register(email).await;
        self.set_role(session.user.id, role).await;
        self.login(email, PASSWORD).await.unwrap()
    }

    async fn set_role(&self, id: UserId, role: Role) {
        sqlx::query("UPDATE users SET role = $2 WHERE id = $1").bind(id).bind(role).execute(&self.accounts.ctx.pg).await.unwrap();
    }

    /// The actions in the audit log, oldest first.
    pub(crate) async fn audited(&self) -> Vec<String> {
        sqlx::query_scalar("SELECT action FROM audit_log ORDER BY id").fetch_all(&self.accounts.ctx.pg).await.unwrap()
    }
}

async fn open(stores: &TestStores, overrides: &[(&str, &str)]) -> shared::Result<Accounts> {
    Accounts::open(stores.context(overrides), Limiter::new(100)).await
}

pub(crate) fn new_user(email: &str) -> NewUser {
    NewUser { email: email.to_owned(), password: secret(PASSWORD), display_name: Some("Ada".to_owned()) }
}

pub(crate) fn secret(text: &str) -> Secret {
    Secret(text.into())
}

/// Waits until `condition` holds, and fails after `deadline`.
pub(crate) async fn eventually<F: Future<Output = bool>>(deadline: Duration, mut condition: impl FnMut() -> F) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < deadline, "the condition does not hold after {deadline:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
