//! The query string as a type: unknown names, wrong types and NUL are refused.

use crate::error::ApiError;
use actix_web::{FromRequest, HttpRequest, dev::Payload, web};
use serde::de::DeserializeOwned;
use shared::{Code, Error, text};
use std::future::{Ready, ready};

#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(parse(request.query_string()).map(Self).map_err(ApiError::from))
    }
}

fn parse<T: DeserializeOwned>(query: &str) -> Result<T, Error> {
    if query.contains("%00") {
        text::check_no_nul("\0")?;
    }
    let parsed = web::Query::<T>::from_query(query)
        .map_err(|error| Error::new(Code::InvalidQuery, format!("The query is not what was asked for: {error}.")))?;
    Ok(parsed.into_inner())
}
