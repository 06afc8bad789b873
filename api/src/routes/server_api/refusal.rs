//! Why a command of a backend was refused, in the codes that its library knows.

use crate::{problems, socket};
use serde::Serialize;
use shared::{Code, Error, channels::ChannelError};
use std::borrow::Cow;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Refusal {
    pub(super) code: u32,
    pub(super) message: Cow<'static, str>,
}

/// The protocol's codes as they are; only sockets are told which commands may pass a little later.
impl From<socket::Refusal> for Refusal {
    fn from(refusal: socket::Refusal) -> Self {
        Self { code: refusal.code, message: refusal.message }
    }
}

/// Unlike sockets, backends are told in detail.
impl From<ChannelError> for Refusal {
    fn from(error: ChannelError) -> Self {
        match error {
            ChannelError::UnfitData(error) | ChannelError::Failed(error) => error.into(),
            ChannelError::BadRequest(detail) | ChannelError::LimitExceeded(detail) => {
                Self { message: detail.into(), ..socket::Refusal::from(error).into() }
            }
            ChannelError::Unknown
            | ChannelError::PermissionDenied
            | ChannelError::NotAvailable
            | ChannelError::UnrecoverablePosition
            | ChannelError::TokenExpired => socket::Refusal::from(error).into(),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        if problems::row(error.code).status.is_server_error() {
            tracing::warn!(%error, "a command of a backend failed");
            return socket::Refusal::INTERNAL.into();
        }
        if error.code == Code::NotFound {
            return socket::Refusal::UNKNOWN_CHANNEL.into();
        }
        let is_forbidden = [Code::Forbidden, Code::InsufficientScope].contains(&error.code);
        let refusal = if is_forbidden { socket::Refusal::PERMISSION_DENIED } else { socket::Refusal::BAD_REQUEST };
        Self { code: refusal.code, message: error.detail }
    }
}
