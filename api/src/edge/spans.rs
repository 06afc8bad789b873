//! The span that every log line of a request stands in. Probes have none: they are many and say nothing.

use super::{RequestScope, classes::is_probe, traced::Traced};
use actix_web::{
    Error, HttpMessage,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
};
use std::rc::Rc;
use tracing::{Span, field};
use tracing_actix_web::RootSpanBuilder;

#[derive(Debug)]
pub struct RequestSpans;

/// Paths whose requests become sockets.
fn is_socket(path: &str) -> bool {
    matches!(path, "/connection/websocket" | "/ws")
}

impl RootSpanBuilder for RequestSpans {
    fn on_request_start(request: &ServiceRequest) -> Span {
        // A socket would keep its span for as long as it is open.
        if is_probe(request.path()) || is_socket(request.path()) {
            return Span::none();
        }
        let trace_id = Traced::begin(request).map(|traced| field::display(traced.context.trace_id()));
        let extensions = request.extensions();
        let request_id = extensions.get::<Rc<RequestScope>>().map_or("", |scope| &*scope.id);
        tracing::info_span!(
            "request",
            request_id,
            trace_id,
            method = request.method().as_str(),
            route = field::Empty,
            status = field::Empty
        )
    }

    fn on_request_end<B: MessageBody>(span: Span, outcome: &Result<ServiceResponse<B>, Error>) {
        if let Ok(response) = outcome
            && let Some(traced) = Traced::of(response.request())
        {
            traced.end(response);
        }
        if span.is_disabled() {
            return;
        }
        if let Ok(response) = outcome {
            // Recording writes the span's fields anew, and nothing but this line comes after it.
            if tracing::enabled!(tracing::Level::DEBUG) {
                span.record("status", response.status().as_u16());
                let route = response.request().match_pattern();
                span.record("route", route.as_deref().unwrap_or("unmatched"));
                let _entered = span.enter();
                tracing::debug!("answered");
            }
        }
    }
}
