//! Why an operation on a channel was refused. Knows neither the protocol's codes nor HTTP's: each edge maps this list to its own.

use crate::{Code, Error};
use std::fmt;

#[derive(Debug)]
pub enum ChannelError {
    /// No namespace is configured for the name.
    Unknown,
    PermissionDenied,
    /// What was asked makes no sense; the text says why.
    BadRequest(&'static str),
    LimitExceeded(&'static str),
    /// What was to be published would break those who read it; the error says how.
    UnfitData(Error),
    /// The namespace has this switched off.
    NotAvailable,
    /// The history that was asked for is in another epoch, or no longer kept.
    UnrecoverablePosition,
    TokenExpired,
    /// A failure of ours: repeating it may help.
    Failed(Error),
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("There is no such channel."),
            Self::PermissionDenied => f.write_str("You may not do this on this channel."),
            Self::BadRequest(detail) | Self::LimitExceeded(detail) => f.write_str(detail),
            Self::NotAvailable => f.write_str("This channel does not offer that."),
            Self::UnrecoverablePosition => f.write_str("The history at this position is no longer kept."),
            Self::TokenExpired => f.write_str("The token has expired."),
            Self::UnfitData(error) | Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ChannelError {}

impl From<Error> for ChannelError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<redis::RedisError> for ChannelError {
    fn from(error: redis::RedisError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<ChannelError> for Error {
    fn from(error: ChannelError) -> Self {
        let code = match error {
            ChannelError::UnfitData(error) | ChannelError::Failed(error) => return error,
            ChannelError::Unknown => Code::NotFound,
            ChannelError::PermissionDenied => Code::Forbidden,
            ChannelError::BadRequest(_) | ChannelError::LimitExceeded(_) => Code::ValidationFailed,
            ChannelError::NotAvailable | ChannelError::UnrecoverablePosition => Code::Conflict,
            ChannelError::TokenExpired => Code::TokenExpired,
        };
        Self::new(code, error.to_string())
    }
}
