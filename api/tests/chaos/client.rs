//! The client's side of the promise: a request that fails for no fault of its own is sent again, with the same key.

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

pub(crate) const EMAIL: &str = "chaos@example.org";
pub(crate) const PASSWORD: &str = "correct horse battery";

#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    token: String,
    /// Requests that were sent again.
    n_again: Arc<AtomicUsize>,
    /// Answers that had been stored for an earlier try.
    n_replayed: Arc<AtomicUsize>,
}

impl Client {
    /// Signs in at the API on `port`, once it is up.
    pub(crate) async fn sign_in(port: u16) -> Self {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().unwrap();
        let url = format!("http://127.0.0.1:{port}/api/v1");
        let mut client =
            Self { http, url, token: String::new(), n_again: Arc::new(AtomicUsize::new(0)), n_replayed: Arc::new(AtomicUsize::new(0)) };
        let body = json!({"email": EMAIL, "password": PASSWORD});
        let session: Value = client.persist(|client| client.request(Method::POST, "/auth/login").json(&body)).await.json().await.unwrap();
        client.token = session["access_token"].as_str().expect("signed in").to_owned();
        client.n_again.store(0, Ordering::Relaxed);
        client
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        if self.token.is_empty() { request } else { request.bearer_auth(&self.token) }
    }

    /// Sends until there is an answer that is not about the server's own trouble.
    pub(crate) async fn persist(&self, request: impl Fn(&Self) -> RequestBuilder) -> Response {
        loop {
            if let Ok(response) = request(self).send().await
                && !response.status().is_server_error()
                && !is_still_running(&response)
            {
                self.n_replayed.fetch_add(usize::from(response.headers().contains_key("idempotency-replayed")), Ordering::Relaxed);
                return response;
            }
            self.n_again.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// [`Client::persist`] for what is read: the body must arrive as well.
    pub(crate) async fn persist_json(&self, request: impl Fn(&Self) -> RequestBuilder) -> (StatusCode, Value) {
        loop {
            let response = self.persist(&request).await;
            let status = response.status();
            if let Ok(body) = response.json().await {
                return (status, body);
            }
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.persist_json(|client| client.request(Method::GET, path)).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Asks for a cancel until somebody has taken the wish, or the job is over.
    pub(crate) async fn cancel(&self, id: &str) {
        let path = format!("/jobs/{id}/cancel");
        let status = self.persist(|client| client.request(Method::POST, &path)).await.status();
        assert!(matches!(status.as_u16(), 200 | 202 | 409), "{path}: {status}");
    }

    /// Asks for something that takes no words.
    pub(crate) async fn command(&self, path: &str) {
        let status = self.persist(|client| client.request(Method::POST, path)).await.status();
        assert!(status.is_success(), "{path}: {status}");
    }

    /// Requests sent again, and answers that were stored.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.n_again.load(Ordering::Relaxed), self.n_replayed.load(Ordering::Relaxed))
    }
}

/// The first request with this key has not ended, or its connection has not been seen to break. A cancel's 409 is an answer.
fn is_still_running(response: &Response) -> bool {
    response.status() == StatusCode::CONFLICT && !response.url().path().ends_with("/cancel")
}
