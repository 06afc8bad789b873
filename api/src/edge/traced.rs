//! The span that a request is in a trace, where traces are on.

use super::RequestScope;
use crate::state::AppState;
use actix_web::{
    HttpMessage, HttpRequest,
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method,
        header::{HeaderMap, HeaderName, HeaderValue},
    },
    web::Data,
};
use shared::telemetry::traces::{self, Kind, Span, TraceContext, Whose};
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
        let (name, parent) = (name_of(request.method()), parent(request.headers()));
        let is_trusted = request.app_data::<Data<AppState>>().is_some_and(|state| state.ctx.settings().traceparent_trusted);
        let whose = if is_trusted { Whose::Trusted } else { Whose::Stranger };
        let span = Span::begin(Kind::Server, name, whose, parent)?;
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
        let method = name_of(request.method());
        span.rename(format!("{method} {route}"));
        span.set("http.request.method", method);
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

/// A method as traces may have it: a client may call it what it likes, and as long as it likes.
fn name_of(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER")
}

fn parent(headers: &HeaderMap) -> Option<TraceContext> {
    headers.get(TRACEPARENT)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_of_a_callers_own_is_no_name_in_traces() {
        let invented = Method::from_bytes("X".repeat(10_000).as_bytes()).unwrap();
        assert_eq!([name_of(&Method::PATCH), name_of(&invented)], ["PATCH", "_OTHER"]);
    }
}
