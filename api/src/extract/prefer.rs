//! `Prefer: wait=N` (RFC 7240): how long a caller would wait for the result instead of polling.

use crate::{edge::RequestScope, error::ApiError, server::left};
use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header::HeaderName};
use shared::{Code, Error};
use std::{
    future::{Ready, ready},
    time::Duration,
};

/// Longest wait that is granted.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// The wish to wait; `None` without the preference, and for no time at all.
#[derive(Debug, Clone)]
pub struct PreferWait(pub Option<Patience>);

/// How long a caller would wait.
#[derive(Debug, Clone)]
pub struct Patience {
    /// At most [`WAIT_MAX`].
    pub wait: Duration,
    request: HttpRequest,
}

impl Patience {
    /// From here on the request only waits, which is limited apart, and gives its place among those in flight back. Ends when the
    /// caller has left.
    pub fn begins(&self) -> impl Future<Output = ()> + use<> {
        RequestScope::from_request(&self.request).leave_in_flight();
        left(self.request.clone())
    }
}

impl FromRequest for PreferWait {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let patience = |wait| Patience { wait, request: request.clone() };
        let patience = wait_of(request).map(|wait| wait.filter(|wait| !wait.is_zero()).map(patience));
        ready(patience.map(Self).map_err(ApiError::from))
    }
}

/// Other preferences are ignored, as the RFC asks; a wait that is not a number is an error the client should see.
pub(crate) fn wait_of(request: &HttpRequest) -> Result<Option<Duration>, Error> {
    for value in request.headers().get_all(HeaderName::from_static("prefer")) {
        let Ok(text) = value.to_str() else { continue };
        for preference in text.split([',', ';']) {
            let Some((name, seconds)) = preference.split_once('=') else { continue };
            if name.trim().eq_ignore_ascii_case("wait") {
                let seconds = seconds.trim().trim_matches('"').parse::<u32>();
                let seconds = seconds.map_err(|_| Error::new(Code::InvalidHeader, "`Prefer: wait=N` takes whole seconds."))?;
                return Ok(Some(Duration::from_secs(seconds.into()).min(WAIT_MAX)));
            }
        }
    }
    Ok(None)
}
