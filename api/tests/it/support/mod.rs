//! [`TestApp`]: a real server in this process, and small words for talking to it.

use actix_web::dev::ServerHandle;
use api::{server, state::AppState};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use shared::testing::TestStores;
use std::net::SocketAddr;

/// A running server. Dropping it stops the server, then drops its database and keys.
#[derive(Debug)]
pub(crate) struct TestApp {
    pub(crate) address: SocketAddr,
    pub(crate) state: AppState,
    pub(crate) client: Client,
    handle: ServerHandle,
    // Last, so that the stores outlive the server.
    pub(crate) stores: TestStores,
}

impl TestApp {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// `overrides` are settings by variable name.
    pub(crate) async fn start_with(overrides: &[(&str, &str)]) -> Self {
        Self::serve(TestStores::create().await, overrides).await
    }

    /// A second process with the same signing keys, and stores of its own unless overridden.
    pub(crate) async fn sibling(&self, overrides: &[(&str, &str)]) -> Self {
        let keys_dir = self.state.ctx.settings().jwt_keys_dir.to_str().expect("test paths are text").to_owned();
        let mut with_keys = vec![("JWT_KEYS_DIR", keys_dir.as_str())];
        with_keys.extend(overrides);
        Self::serve(TestStores::create().await, &with_keys).await
    }

    /// A second process on the same stores.
    pub(crate) async fn twin(&self, overrides: &[(&str, &str)]) -> Self {
        let mut variables: Vec<(&str, &str)> = self.stores.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        variables.extend(overrides);
        Self::serve(TestStores::create().await, &variables).await
    }

    pub(crate) async fn serve(stores: TestStores, overrides: &[(&str, &str)]) -> Self {
        let mut variables = vec![("API_PORT", "0"), ("API_WORKERS", "1"), ("DB_POOL_MAX", "8")];
        variables.extend(overrides);
        let state = server::open_state(stores.settings(&variables)).await.expect("the state opens");
        let (server, address) = server::bind(state.clone()).expect("port 0 is free");
        let handle = server.handle();
        tokio::spawn(server);
        Self {
            address,
            state,
            client: Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client builds"),
            handle,
            stores,
        }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path)
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        // The stop is asked for here; its end need not be waited for, the database is dropped with force.
        drop(self.handle.stop(false));
    }
}

/// Sends, and gives status and JSON body (null for none).
pub(crate) async fn send(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.expect("the server answers");
    let status = response.status();
    let body = response.bytes().await.expect("the body arrives");
    (status, if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("answers are JSON") })
}

/// Sends what must fail, checks that the answer is a whole problem, and gives its status and code.
pub(crate) async fn send_for_problem(request: RequestBuilder) -> (u16, String) {
    problem_of(request.send().await.expect("the server answers")).await
}

pub(crate) async fn problem_of(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let request_id = response.headers()["x-request-id"].to_str().expect("ids are text").to_owned();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = response.json().await.expect("a problem is JSON");
    assert_eq!(problem["status"], status);
    assert_eq!(problem["request_id"], request_id);
    let code = problem["code"].as_str().expect("a problem has a code").to_owned();
    assert_eq!(problem["type"], format!("/problems/{code}"));
    (status, code)
}
