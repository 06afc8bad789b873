//! The platform's API as a load test needs it beside the load: one request at a time, with the
//! body read.

use std::time::Duration;

use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::client::{BodyRule, Failure, Link, Request, Scratch};
use crate::error::Error;

/// Longest wait for one answer during set-up: signing in waits for password hashing.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A client for setting up.
#[derive(Debug)]
pub(crate) struct Control {
    runtime: tokio::runtime::Runtime,
    link: Link,
    scratch: Scratch,
    authority: String,
    /// Ctrl-C, once somebody wants to know of it.
    interrupts: Option<Signal>,
}

/// An answer of the platform; `body` is null when it is not JSON.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Control {
    pub(crate) fn new(peer: std::net::SocketAddr, authority: &str) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::failed)?;
        let link = {
            let _entered = runtime.enter();
            Link::new(peer, None, BodyRule::Expected, TIMEOUT)
        };
        Ok(Self { runtime, link, scratch: Scratch::new(), authority: authority.to_owned(), interrupts: None })
    }

    /// Sends `request`; an answer other than `expected` is an error that says what `purpose` met.
    pub(crate) fn expect(&mut self, expected: u16, purpose: &str, request: &Request) -> Result<Value, Error> {
        let answer = self.send(request).map_err(|error| Error::failed(format!("{purpose} at {}: {error}", self.authority)))?;
        if answer.status == expected {
            return Ok(answer.body);
        }
        let status = answer.status;
        let detail = ["detail", "title"].iter().find_map(|key| answer.body[key].as_str());
        let hint = match status {
            401 => ": check --email and --password, or --token",
            404 => ": is this the platform?",
            429 => ": raise its rate limits for the measurement (RATE_LIMIT_…)",
            _ => "",
        };
        Err(Error::failed(format!(
            "{purpose}: {} answered {status}{}{hint}",
            self.authority,
            detail.map(|detail| format!(" ({detail})")).unwrap_or_default(),
        )))
    }

    pub(crate) fn send(&mut self, request: &Request) -> Result<Answer, Error> {
        let (status, body) = self.fetch(request)?;
        Ok(Answer { status, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
    }

    /// Sends `request` and gives back status and body as they come.
    pub(crate) fn fetch(&mut self, request: &Request) -> Result<(u16, Vec<u8>), Error> {
        let bytes = request.to_bytes(&self.authority).map_err(Error::usage)?;
        let mut body = Vec::new();
        let mut outcome = self.exchange(&bytes, &mut body);
        if let Err(Failure::Closed(_)) = outcome {
            // The server may have closed an idle connection unseen: this loop does not run
            // between two calls.
            body.clear();
            outcome = self.exchange(&bytes, &mut body);
        }
        let response = outcome.map_err(Error::failed)?;
        Ok((response.status, body))
    }

    fn exchange(&mut self, bytes: &[u8], body: &mut Vec<u8>) -> Result<crate::client::Response, Failure> {
        let sink = |piece: &[u8]| body.extend_from_slice(piece);
        let exchange = self.link.exchange(bytes, &self.scratch, sink);
        self.runtime.block_on(exchange)
    }

    /// Lets `pause` pass; `true` when Ctrl-C was pressed meanwhile, or since the first call of this.
    pub(crate) fn pause_unless_interrupted(&mut self, pause: Duration) -> bool {
        let interrupts = &mut self.interrupts;
        self.runtime.block_on(async {
            if interrupts.is_none() {
                *interrupts = signal(SignalKind::interrupt()).ok();
            }
            let Some(interrupts) = interrupts else { return true };
            tokio::time::timeout(pause, interrupts.recv()).await.is_ok()
        })
    }

    /// Lets `pause` pass.
    pub(crate) fn pause(&self, pause: Duration) {
        // Made inside the runtime: a timer belongs to one.
        self.runtime.block_on(async { tokio::time::sleep(pause).await });
    }
}
