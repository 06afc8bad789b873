//! What is known of a request before anything is done for it: its id, its client, and its place among those in flight.

use super::{
    TOO_MANY, address,
    admission::{Place, Reason},
    overloaded,
};
use crate::server::pacing::Turn;
use actix_web::{
    HttpMessage, HttpRequest,
    dev::ServiceRequest,
    http::{StatusCode, header::HeaderName},
};
use shared::{Result, config::Settings, turns::Waiter};
use std::{cell::RefCell, net::IpAddr, rc::Rc, time::Instant};
use uuid::Uuid;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// One per request, shared by all that handle it.
#[derive(Debug)]
pub struct RequestScope {
    /// The client's `X-Request-Id` if it is well-formed, else a new UUIDv7.
    pub id: Rc<str>,
    /// The client's address; behind a trusted proxy, the one that the proxy names.
    pub address: IpAddr,
    /// None for probes.
    place: RefCell<Option<Place>>,
    /// Read again later, if the request is shed.
    connection: Option<Turn>,
}

impl RequestScope {
    pub(super) fn of(request: &ServiceRequest, settings: &Settings, place: Option<Place>) -> Rc<Self> {
        let id = id_of(request);
        let address = address::of_client(request, settings);
        Rc::new(Self { id, address, place: RefCell::new(place), connection: request.conn_data::<Turn>().cloned() })
    }

    /// The scope that the edge gave to this request.
    pub fn from_request(request: &HttpRequest) -> Rc<Self> {
        Rc::clone(request.extensions().get::<Rc<Self>>().expect("the edge wraps every route"))
    }

    /// Leaves the place among the requests in flight: for requests that only wait, and have a limit of their own.
    pub fn leave_in_flight(&self) {
        if let Some(place) = self.place.borrow_mut().take() {
            place.leave();
        }
    }

    /// Has nothing learned from how long this request takes: its client sends or reads all the while.
    pub(crate) fn goes_at_the_clients_pace(&self) {
        if let Some(place) = self.place.borrow_mut().as_mut() {
            place.is_no_sample();
        }
    }

    pub(super) fn finish(&self, status: StatusCode) {
        if let Some(place) = self.place.borrow_mut().take() {
            place.end(status);
        }
    }
}

/// Who waits, for a body that is on its way or for a turn, is not in flight meanwhile.
impl Waiter for RequestScope {
    fn begin_wait(&self) {
        if let Some(place) = self.place.borrow_mut().as_mut() {
            place.begin_wait();
        }
    }

    /// May send away: who has waited takes a place again, and of sign-ins as many are worked on as there may be.
    fn begin_work(&self) -> Result<()> {
        let mut place = self.place.borrow_mut();
        let Some(place) = place.as_mut() else { return Ok(()) };
        let Err(reason) = place.begin_work() else { return Ok(()) };
        let detail = match reason {
            Reason::Class => "Too many sign-ins at once.",
            Reason::InFlight | Reason::Late | Reason::Waited => TOO_MANY,
        };
        let now = Instant::now();
        let turn = place.next_turn(now);
        if let Some(connection) = &self.connection {
            connection.put_off(turn);
        }
        Err(overloaded(detail, turn - now))
    }
}

/// The client's `X-Request-Id` if it is well-formed, else a new one.
pub(super) fn id_of(request: &ServiceRequest) -> Rc<str> {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|id| is_well_formed(id));
    given.map_or_else(|| Rc::from(Uuid::now_v7().hyphenated().encode_lower(&mut Uuid::encode_buffer()) as &str), Rc::from)
}

/// 1 to 128 characters that can neither break a log line nor a header.
fn is_well_formed(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
}
