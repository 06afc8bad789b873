//! An id or name in the path. What cannot be one names nothing, so it is a 404 like any other unknown one.

use crate::error::ApiError;
use actix_web::{FromRequest, HttpRequest, dev::Payload};
use shared::Error;
use std::{
    future::{Ready, ready},
    str::FromStr,
};

/// The one variable segment of the path.
#[derive(Debug)]
pub struct Id<T>(pub T);

impl<T: FromStr> FromRequest for Id<T> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = request.match_info().iter().next().and_then(|(_, text)| text.parse().ok());
        ready(id.map(Self).ok_or_else(|| Error::not_found("object").into()))
    }
}
