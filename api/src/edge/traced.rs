//! The span that a request is in a trace, where traces are on.

use super::RequestScope;
use actix_web::{
    HttpMessage, HttpRequest,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{HeaderMap, HeaderName, HeaderValue},
};
use shared::telemetry::traces::{self, Kind, Span, TraceContext};
use std::{cell::RefCell, rc::Rc};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Kept with the request. Its span is over when it is answered, or when it is given up.
#[derive(Debug)]
pub(crate) struct Traced {
    pub(crate) context: TraceContext,
    span: RefCell<Option<Span>>,
}

impl Traced {
    /// Begins the request's span, below the caller's if it names one; `None` while traces are off.
    pub(super) fn begin(request: &ServiceRequest) -> Option<Rc<Self>> {
        if !traces::are_on() {
            return None;
        }
        let span = Span::begin(Kind::Server, request.method().as_str().to_owned(), parent(request.headers()))?;
        let traced = Rc::new(Self { context: span.context(), span: RefCell::new(Some(span)) });
        request.extensions_mut().insert(Rc::clone(&traced));
        Some(traced)
    }

    pub(crate) fn of(request: &HttpRequest) -> Option<Rc<Self>> {
        request.extensions().get::<Rc<Self>>().map(Rc::clone)
    }

    /// Ends the span with what became of the request.
    pub(super) fn end<B>(&self, response: &ServiceResponse<B>) {
        let Some(mut span) = self.span.take() else { return };
        let request = response.request();
        let (route, status) = (request.match_pattern().unwrap_or_else(|| "unmatched".to_owned()), response.status());
        span.rename(format!("{} {route}", request.method()));
        span.set("http.request.method", request.method().as_str());
        span.set("http.route", route);
        span.set("http.response.status_code", i64::from(status.as_u16()));
        span.set("request_id", &*RequestScope::from_request(request).id);
        if status.is_server_error() {
            span.fail(status.canonical_reason().unwrap_or("a server error"));
        }
    }

    /// Tells the caller which trace the request is part of.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        headers.insert(TRACEPARENT, HeaderValue::from_str(&self.context.to_string()).expect("it is hexadecimal"));
    }
}

fn parent(headers: &HeaderMap) -> Option<TraceContext> {
    headers.get(TRACEPARENT)?.to_str().ok()?.parse().ok()
}
