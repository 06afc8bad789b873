//! The caller that the gate let in, and what else is worth knowing of a request.

use crate::{
    edge::{RequestScope, traced::Traced},
    error::ApiError,
};
use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload, http::header};
use shared::{
    Caller, Code,
    accounts::{Origin, Proof},
    telemetry::traces::is_traceparent,
};
use std::{
    future::{Ready, ready},
    net::IpAddr,
};

/// The authenticated caller; on a route whose gate is public there is none, and asking is a mistake of ours.
#[derive(Debug, Clone, Copy)]
pub struct CallerOf(pub Caller);

impl FromRequest for CallerOf {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Proof>().map(|proof| proof.caller);
        ready(caller.map(Self).ok_or_else(|| ApiError::new(Code::Unauthenticated, "Credentials are needed.")))
    }
}

/// Where a request came from, for audit entries, sessions and jobs.
#[derive(Debug, Clone)]
pub struct Meta {
    pub request_id: String,
    pub address: IpAddr,
    pub user_agent: Option<String>,
    /// W3C trace context, if it is well-formed.
    pub traceparent: Option<String>,
}

impl From<Meta> for Origin {
    fn from(meta: Meta) -> Self {
        Self { request_id: Some(meta.request_id), address: Some(meta.address), user_agent: meta.user_agent }
    }
}

impl FromRequest for Meta {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let scope = RequestScope::from_request(request);
        let text = |name: header::HeaderName, max: usize| {
            let value = request.headers().get(name)?.to_str().ok()?;
            Some(value.chars().take(max).collect::<String>())
        };
        // Where traces are on, what the request causes is below its own span; else it is below the caller's.
        let traceparent = match Traced::of(request) {
            Some(traced) => Some(traced.context.to_string()),
            None => text(header::HeaderName::from_static("traceparent"), 64).filter(|value| is_traceparent(value)),
        };
        ready(Ok(Self { request_id: scope.id.to_string(), address: scope.address, user_agent: text(header::USER_AGENT, 256), traceparent }))
    }
}
