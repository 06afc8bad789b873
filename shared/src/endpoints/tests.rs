//! What owners do at the same moment, and what becomes of jobs that wait.

use super::{
    Endpoint, EndpointSettings, EndpointState,
    input::{NewEndpoint, PatchEndpoint},
    manage,
};
use crate::{
    Caller, Code, Context, Error, Result, Role,
    accounts::Origin,
    caller::Credential,
    ids::{JobId, SessionId, UserId},
    jobs::submit,
    outbound::{Guard, Outbound, guard::Resolve},
    testing::TestStores,
};
use futures_util::future::BoxFuture;
use serde_json::json;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::timeout};

/// Answers for `slow.example` once it is let, and for others at once.
#[derive(Debug)]
struct Names {
    asked: Semaphore,
    may_answer: Semaphore,
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            if host == "slow.example" {
                self.asked.add_permits(1);
                self.may_answer.acquire().await.map_err(io::Error::other)?.forget();
            }
            Ok(vec![SocketAddr::from(([93, 184, 216, 34], port))])
        })
    }
}

struct Fixture {
    ctx: Context,
    names: Arc<Names>,
    caller: Caller,
    _stores: TestStores,
}

impl Fixture {
    async fn new() -> Self {
        let stores = TestStores::create().await;
        let names = Arc::new(Names { asked: Semaphore::new(0), may_answer: Semaphore::new(0) });
        let outbound = Outbound::new(Guard::with_resolver(&[], Arc::clone(&names) as Arc<dyn Resolve>));
        let mut ctx = stores.context(&[]);
        ctx.outbound = outbound;
        let caller = Caller::new(UserId::new(), Role::User, Role::User.scopes(), Credential::Session(SessionId::new()));
        let user =
            "INSERT INTO users (id, email, password_hash, role, created_at, updated_at) VALUES ($1, 'a@b.org', '', 'user', now(), now())";
        sqlx::query(user).bind(caller.user_id.0).execute(&ctx.pg).await.unwrap();
        Self { ctx, names, caller, _stores: stores }
    }

    async fn create(&self) -> Endpoint {
        self.try_to_create().await.unwrap()
    }

    async fn try_to_create(&self) -> Result<Endpoint> {
        let new: NewEndpoint = serde_json::from_value(json!({"name": "orders", "url": "https://example.org/"})).unwrap();
        let checked = manage::check(&self.ctx, &self.caller, &new).await?;
        let mut tx = self.ctx.pg.begin().await?;
        let endpoint = manage::create(&self.ctx, &mut tx, &self.caller, checked, &Origin::default()).await?;
        tx.commit().await?;
        Ok(endpoint)
    }

    async fn patch(
        &self,
        of: &Endpoint,
        patch: serde_json::Value,
        allow: impl FnOnce(&EndpointSettings) -> Result<()>,
    ) -> Result<Endpoint> {
        let patch: PatchEndpoint = serde_json::from_value(patch).unwrap();
        manage::update(&self.ctx, &self.caller, of.settings.id, &patch, allow, &Origin::default()).await
    }

    /// Does `meanwhile` while a name is being looked up.
    async fn meanwhile(&self, work: impl Future<Output = ()>) {
        let asked = timeout(Duration::from_secs(10), self.names.asked.acquire()).await;
        asked.expect("the name is looked up").unwrap().forget();
        work.await;
        self.names.may_answer.add_permits(1);
    }
}

#[tokio::test]
async fn a_change_that_takes_its_time_takes_nothing_back() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.create().await;
    let pause = async {
        manage::pause(&fixture.ctx, &fixture.caller, endpoint.settings.id, &Origin::default()).await.unwrap();
        fixture.patch(&endpoint, json!({"name": "renamed"}), |_| Ok(())).await.unwrap();
    };
    let change = fixture.patch(&endpoint, json!({"url": "https://slow.example/"}), |_| Ok(()));
    let (changed, ()) = tokio::join!(change, fixture.meanwhile(pause));
    let changed = changed.unwrap().settings;
    assert_eq!((changed.state, changed.name.as_str(), changed.url.as_str()), (EndpointState::Paused, "renamed", "https://slow.example/"));
    let resumed = manage::resume(&fixture.ctx, &fixture.caller, endpoint.settings.id, &Origin::default()).await.unwrap();
    assert_eq!(resumed.settings, EndpointSettings { state: EndpointState::Active, ..changed });
}

#[tokio::test]
async fn of_two_changes_to_what_was_seen_one_is_made() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.create().await;
    let as_seen = |settings: &EndpointSettings| match *settings == endpoint.settings {
        true => Ok(()),
        false => Err(Error::new(Code::PreconditionFailed, "changed since")),
    };
    let first = async { drop(fixture.patch(&endpoint, json!({"name": "first"}), as_seen).await.unwrap()) };
    let second = fixture.patch(&endpoint, json!({"url": "https://slow.example/"}), as_seen);
    let (second, ()) = tokio::join!(second, fixture.meanwhile(first));
    assert_eq!(second.unwrap_err().code, Code::PreconditionFailed);
}

/// Sends a job to an endpoint that was tried once and waits for its next try, and gives its id.
#[tokio::test]
async fn who_was_deleted_while_they_ask_is_told_that_they_are_nobody() {
    let fixture = Fixture::new().await;
    sqlx::query("DELETE FROM users").execute(&fixture.ctx.pg).await.unwrap();
    assert_eq!(fixture.try_to_create().await.unwrap_err().code, Code::InvalidToken);
}

async fn job_that_waits(fixture: &Fixture, endpoint: &Endpoint) -> JobId {
    let job = json!({"kind": "http.request", "target": {"type": "http", "endpoint_id": endpoint.settings.id}});
    let job = submit::prepare(&fixture.ctx, &fixture.caller, serde_json::from_value(job).unwrap(), Default::default()).await.unwrap();
    let id = submit::submit(&fixture.ctx, job).await.unwrap().id;
    let tried = "UPDATE jobs SET attempt = 1, run_at = now() + interval '5 minutes' WHERE id = $1";
    sqlx::query(tried).bind(id.0).execute(&fixture.ctx.pg).await.unwrap();
    id
}

async fn is_due(fixture: &Fixture, id: JobId) -> bool {
    sqlx::query_scalar("SELECT run_at <= now() + interval '1 minute' FROM jobs WHERE id = $1")
        .bind(id.0)
        .fetch_one(&fixture.ctx.pg)
        .await
        .unwrap()
}

#[tokio::test]
async fn what_waits_for_an_endpoint_is_due_when_it_is_active_again_and_not_when_it_was_so_before() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.create().await;
    let (theirs, foreign) = (job_that_waits(&fixture, &endpoint).await, job_that_waits(&fixture, &endpoint).await);
    let owner = "UPDATE jobs SET owner_id = $2 WHERE id = $1";
    sqlx::query(owner).bind(foreign.0).bind(UserId::new().0).execute(&fixture.ctx.pg).await.unwrap();
    let (id, origin) = (endpoint.settings.id, Origin::default());
    manage::resume(&fixture.ctx, &fixture.caller, id, &origin).await.unwrap();
    assert!(!is_due(&fixture, theirs).await, "nothing has changed");
    manage::pause(&fixture.ctx, &fixture.caller, id, &origin).await.unwrap();
    manage::resume(&fixture.ctx, &fixture.caller, id, &origin).await.unwrap();
    assert!(is_due(&fixture, theirs).await);
    assert!(!is_due(&fixture, foreign).await, "those of others are not looked through");
}
