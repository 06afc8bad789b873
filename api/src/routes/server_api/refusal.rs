//! Why a command of a backend was refused, in the codes that its library knows.

use crate::problems;
use serde::Serialize;
use shared::{Code, Error, channels::ChannelError};
use std::borrow::Cow;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Refusal {
    pub(super) code: u32,
    pub(super) message: Cow<'static, str>,
}

macro_rules! refusals {
    ($($name:ident = $code:literal $message:literal;)*) => {
        impl Refusal {
            $(pub(super) const $name: Self = Self { code: $code, message: Cow::Borrowed($message) };)*
        }
    };
}

refusals! {
    INTERNAL = 100 "internal server error";
    UNKNOWN_CHANNEL = 102 "unknown channel";
    PERMISSION_DENIED = 103 "permission denied";
    METHOD_NOT_FOUND = 104 "method not found";
    LIMIT_EXCEEDED = 106 "limit exceeded";
    BAD_REQUEST = 107 "bad request";
    NOT_AVAILABLE = 108 "not available";
    TOKEN_EXPIRED = 109 "token expired";
    UNRECOVERABLE_POSITION = 112 "unrecoverable position";
}

impl From<ChannelError> for Refusal {
    fn from(error: ChannelError) -> Self {
        match error {
            ChannelError::Unknown => Self::UNKNOWN_CHANNEL,
            ChannelError::PermissionDenied => Self::PERMISSION_DENIED,
            ChannelError::BadRequest(detail) => Self { message: detail.into(), ..Self::BAD_REQUEST },
            ChannelError::LimitExceeded(detail) => Self { message: detail.into(), ..Self::LIMIT_EXCEEDED },
            ChannelError::NotAvailable => Self::NOT_AVAILABLE,
            ChannelError::UnrecoverablePosition => Self::UNRECOVERABLE_POSITION,
            ChannelError::TokenExpired => Self::TOKEN_EXPIRED,
            ChannelError::Failed(error) => error.into(),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        if problems::row(error.code).status.is_server_error() {
            tracing::warn!(%error, "a command of a backend failed");
            return Self::INTERNAL;
        }
        if error.code == Code::NotFound {
            return Self::UNKNOWN_CHANNEL;
        }
        let is_forbidden = [Code::Forbidden, Code::InsufficientScope].contains(&error.code);
        let refusal = if is_forbidden { Self::PERMISSION_DENIED } else { Self::BAD_REQUEST };
        Self { message: error.detail, ..refusal }
    }
}
