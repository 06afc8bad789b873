//! What happens to every request around its handler:
//!
//! admit it or shed it ([`admission`], by its class, [`classes`]) → name it and find its client ([`scope`], [`address`]) → run the inner
//! service → turn any error into a problem → add headers ([`headers`]).
//!
//! What only a matched route can know (sign-in, rate limit, deadline, timing) is in [`crate::gate`].

mod adaptive;
pub mod address;
pub mod admission;
pub mod classes;
mod complaints;
pub mod compression;
pub mod headers;
pub mod scope;
pub mod spans;
pub(crate) mod traced;
pub mod traffic;

pub use scope::RequestScope;
pub use traffic::Traffic;

use crate::{
    error::{ApiError, problem_response},
    problems,
    server::pacing::Turn,
    state::AppState,
};
use actix_web::{
    Error, HttpMessage, HttpResponse,
    body::{BoxBody, EitherBody, MessageBody},
    dev::{Service, ServiceRequest, ServiceResponse, Transform},
    error::InternalError,
    web::Data,
};
use admission::Admission;
use classes::{RouteClasses, is_probe};
use futures_util::future::LocalBoxFuture;
use metrics::Counter;
use shared::{Code, Error as DomainError, telemetry::metrics::APP_ERRORS};
use std::{
    future::{Ready, ready},
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// The outermost middleware; one instance per worker thread, which owns that thread's in-flight limit.
#[derive(Debug)]
pub struct Edge {
    state: Data<AppState>,
    traffic: Rc<Traffic>,
}

impl Edge {
    pub fn new(state: Data<AppState>, traffic: Rc<Traffic>) -> Self {
        Self { state, traffic }
    }
}

impl<S, B> Transform<S, ServiceRequest> for Edge
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B, BoxBody>>;
    type Error = Error;
    type Transform = EdgeService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        let overloaded = metrics::counter!(APP_ERRORS, "kind" => Code::Overloaded.as_str());
        let admission = Admission::new(&self.state.ctx.settings(), self.traffic.worker());
        ready(Ok(EdgeService(Rc::new(Inner {
            service,
            admission,
            classes: RouteClasses::default(),
            overloaded,
            state: self.state.clone(),
            traffic: Rc::clone(&self.traffic),
        }))))
    }
}

#[derive(Debug)]
pub struct EdgeService<S>(Rc<Inner<S>>);

#[derive(Debug)]
struct Inner<S> {
    service: S,
    admission: Rc<Admission>,
    classes: RouteClasses,
    /// Those that were shed, among all problems.
    overloaded: Counter,
    state: Data<AppState>,
    traffic: Rc<Traffic>,
}

impl<S, B> Service<ServiceRequest> for EdgeService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B, BoxBody>>;
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Error>>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.service.poll_ready(cx)
    }

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let inner = Rc::clone(&self.0);
        Box::pin(async move { inner.handle(request).await })
    }
}

impl<S, B> Inner<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    async fn handle(&self, request: ServiceRequest) -> Result<ServiceResponse<EitherBody<B, BoxBody>>, Error> {
        let arrived = Instant::now();
        let place = if is_probe(request.path()) {
            None
        } else {
            let kept_waiting = request.conn_data::<Turn>().is_some_and(Turn::has_kept_waiting);
            match self.admission.admit(self.classes.of(&request), arrived, kept_waiting) {
                Ok(place) => Some(place),
                Err(_) => return Ok(self.shed(request, arrived).map_into_right_body()),
            }
        };
        let settings = self.state.ctx.settings();
        let _under_way = self.traffic.begin(&request, settings.largest_body_bytes());
        let scope = RequestScope::of(&request, &settings, place);
        drop(settings);
        request.extensions_mut().insert(Rc::clone(&scope));
        let mut response = match self.service.call(request).await {
            Ok(response) if is_error(&response) => self.answer_problem(response.map_into_left_body(), &scope),
            Ok(response) => response.map_into_left_body(),
            Err(error) => return Err(self.own_words(error, &scope)),
        };
        headers::finish(&mut response, &scope, self.state.drain.has_begun());
        scope.finish(response.status());
        Ok(self.traffic.count(response))
    }

    /// The answer to a request that is not looked at any further. It is made straight: there are many of them, and little time.
    fn shed(&self, request: ServiceRequest, arrived: Instant) -> ServiceResponse<BoxBody> {
        let turn = self.admission.next_turn(arrived);
        let error = overloaded(TOO_MANY, turn - arrived);
        self.overloaded.increment(1);
        let id = scope::id_of(&request);
        if let Some(connection) = request.conn_data::<Turn>() {
            connection.put_off(turn);
        }
        let mut response = request.into_response(problem_response(&error, &id));
        headers::finish_shed(&mut response, &id, self.state.drain.has_begun());
        self.admission.shed_within(arrived);
        response
    }

    /// Replaces the body of an error answer by the problem; its headers (`Allow`, CORS, limits) stay.
    fn answer_problem(
        &self,
        response: ServiceResponse<EitherBody<B, BoxBody>>,
        scope: &RequestScope,
    ) -> ServiceResponse<EitherBody<B, BoxBody>> {
        let carried = response.response().extensions().get::<ApiError>().cloned();
        let error = carried.unwrap_or_else(|| ApiError::new(problems::code_for(response.status()), detail_for(response.status().as_u16())));
        self.observe(&error.0);
        let problem = problem_response(&error.0, &scope.id);
        let (request, response) = response.into_parts();
        let (mut parts, _) = response.into_parts();
        *parts.status_mut() = problem.status();
        for (name, value) in problem.headers() {
            parts.headers_mut().insert(name.clone(), value.clone());
        }
        let body = problem.into_body();
        ServiceResponse::new(request, parts.set_body(EitherBody::right(body)))
    }

    /// An error that a layer passed up without an answer.
    fn own_words(&self, error: Error, scope: &RequestScope) -> Error {
        let status = error.as_response_error().status_code();
        let domain_error = DomainError::new(problems::code_for(status), detail_for(status.as_u16())).caused_by(error.to_string());
        self.observe(&domain_error);
        let response: HttpResponse = problem_response(&domain_error, &scope.id);
        InternalError::from_response(error, response).into()
    }

    fn observe(&self, error: &DomainError) {
        if error.code == Code::DatabaseUnavailable {
            self.state.health.postgres.doubt();
        }
        metrics::counter!(APP_ERRORS, "kind" => error.code.as_str()).increment(1);
        if problems::row(error.code).status.is_server_error() {
            complaints::log(error);
        }
    }
}

const TOO_MANY: &str = "More requests are in flight than this process takes.";

/// Sends away: until the connection is read again, `put_off` from now, and with jitter, so that those sent away do not come back as one crowd.
fn overloaded(detail: &'static str, put_off: Duration) -> DomainError {
    DomainError::new(Code::Overloaded, detail).retry_after(Duration::from_secs(put_off.as_secs() + rand::random_range(1..=3)))
}

/// Put into an answer's extensions by the one handler whose 503 is no problem: readiness, which has a body of its own.
#[derive(Debug, Clone, Copy)]
pub struct NotAProblem;

fn is_error<B>(response: &ServiceResponse<B>) -> bool {
    let failed = response.status().is_client_error() || response.status().is_server_error();
    failed && !response.response().extensions().contains::<NotAProblem>()
}

fn detail_for(status: u16) -> &'static str {
    match status {
        404 => "There is nothing at this path.",
        405 => "This path does not take this method; `Allow` lists those it takes.",
        413 => "The body is larger than this path takes.",
        415 => "Send `Content-Type: application/json`.",
        _ => "The request could not be answered.",
    }
}
