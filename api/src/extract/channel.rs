//! The channel that the path names. A name without a namespace of ours names nothing, so it is a 404.

use crate::{error::ApiError, state::AppState};
use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    web::{Data, Path},
};
use shared::{Error, channels::Channel};
use std::future::{Ready, ready};

#[derive(Debug)]
pub struct ChannelOf(pub Channel);

impl FromRequest for ChannelOf {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let state = request.app_data::<Data<AppState>>().expect("the server registers its state");
        // Unlike the plain segment, this one has every escape undone: names may hold `/` and `%`.
        let name = Path::<String>::from_request(request, payload).into_inner().ok();
        let channel = name.and_then(|name| state.ctx.namespaces.resolve(&name).ok());
        ready(channel.map(Self).ok_or_else(|| Error::not_found("channel").into()))
    }
}
