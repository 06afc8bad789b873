//! Why a command was refused: the protocol's codes, which the server API shares, and how our own errors map to them.

use crate::problems;
use serde::Serialize;
use shared::{Code, Error, channels::ChannelError};
use std::borrow::Cow;

/// The `error` of a reply. The connection goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Refusal {
    pub(crate) code: u32,
    pub(crate) message: Cow<'static, str>,
    /// Whether the same command may pass a little later.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) temporary: bool,
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $code:literal $message:literal $($temporary:ident)?;)*) => {
        impl Refusal {
            $($(#[$doc])* pub(crate) const $name: Self = Self {
                code: $code,
                message: Cow::Borrowed($message),
                temporary: refusals!(@temporary $($temporary)?),
            };)*
        }
    };
    (@temporary) => { false };
    (@temporary temporary) => { true };
}

refusals! {
    INTERNAL = 100 "internal server error" temporary;
    UNAUTHORIZED = 101 "unauthorized";
    UNKNOWN_CHANNEL = 102 "unknown channel";
    PERMISSION_DENIED = 103 "permission denied";
    METHOD_NOT_FOUND = 104 "method not found";
    ALREADY_SUBSCRIBED = 105 "already subscribed";
    LIMIT_EXCEEDED = 106 "limit exceeded";
    BAD_REQUEST = 107 "bad request";
    NOT_AVAILABLE = 108 "not available";
    TOKEN_EXPIRED = 109 "token expired";
    // 110 is of servers whose connections expire without a token.
    TOO_MANY_REQUESTS = 111 "too many requests" temporary;
    UNRECOVERABLE_POSITION = 112 "unrecoverable position";
}

impl Refusal {
    /// What is wrong with data that was to be published.
    fn unfit_data(error: &Error) -> Self {
        let reason = error.fields.first().map_or(error.code.as_str(), |field| &field.code);
        Self { message: format!("{}: data is {reason}", Self::BAD_REQUEST.message).into(), ..Self::BAD_REQUEST }
    }
}

impl From<ChannelError> for Refusal {
    fn from(error: ChannelError) -> Self {
        match error {
            ChannelError::Unknown => Self::UNKNOWN_CHANNEL,
            ChannelError::PermissionDenied => Self::PERMISSION_DENIED,
            ChannelError::BadRequest(_) => Self::BAD_REQUEST,
            ChannelError::UnfitData(error) => Self::unfit_data(&error),
            ChannelError::LimitExceeded(_) => Self::LIMIT_EXCEEDED,
            ChannelError::NotAvailable => Self::NOT_AVAILABLE,
            ChannelError::UnrecoverablePosition => Self::UNRECOVERABLE_POSITION,
            ChannelError::TokenExpired => Self::TOKEN_EXPIRED,
            ChannelError::Failed(error) => error.into(),
        }
    }
}

/// What REST would answer, in the protocol's terms: its own code where it has one, else the HTTP status, which lies in the
/// range that is free for applications. The message is the problem's code and sentence.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        if let Some((_, refusal)) = OF_CODES.iter().find(|(codes, _)| codes.contains(&error.code)) {
            return refusal.clone();
        }
        let status = problems::row(error.code).status;
        if status.is_server_error() {
            if error.code == Code::Internal {
                tracing::warn!(%error, "a command failed");
            } else {
                // Every command of every socket may meet the same cause, which says so itself.
                tracing::debug!(%error, "a command failed");
            }
            return Self { message: error.code.as_str().into(), ..Self::INTERNAL };
        }
        let message = format!("{}: {}", error.code, error.detail).into();
        Self { code: status.as_u16().into(), message, temporary: error.retry_after.is_some() }
    }
}

/// The codes that the protocol has one of its own for.
const OF_CODES: &[(&[Code], Refusal)] = &[
    (&[Code::Unauthenticated, Code::InvalidToken], Refusal::UNAUTHORIZED),
    (&[Code::TokenExpired], Refusal::TOKEN_EXPIRED),
    (&[Code::Forbidden, Code::InsufficientScope], Refusal::PERMISSION_DENIED),
    (&[Code::InvalidJson, Code::JsonTooDeep], Refusal::BAD_REQUEST),
    (&[Code::RateLimited], Refusal::TOO_MANY_REQUESTS),
];
