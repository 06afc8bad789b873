//! `Prefer: wait=N` (RFC 7240): how long a caller would wait for the result instead of polling.

use crate::{edge::RequestScope, error::ApiError};
use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header::HeaderName};
use shared::{Code, Error};
use std::{
    future::{Ready, ready},
    time::Duration,
};

/// Longest wait that is granted.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// The wish to wait, cut to [`WAIT_MAX`]; `None` without the preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreferWait(pub Option<Duration>);

impl FromRequest for PreferWait {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let patience = wait_of(request);
        if let Ok(Some(_)) = patience {
            // Who waits does nothing; how many may is limited apart.
            RequestScope::from_request(request).leave_in_flight();
        }
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
