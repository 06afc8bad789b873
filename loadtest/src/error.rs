//! How a command fails, and the exit code that says so.

/// Why a load test was not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line asks for what cannot or must not be done: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The platform could not be reached, refused, or could not be set up: exit code 1.
    #[error("{0}")]
    Failed(String),
    #[error("cannot write the result: {0}")]
    Output(#[from] std::io::Error),
}

impl Error {
    pub(crate) fn usage(reason: impl std::fmt::Display) -> Self {
        Error::Usage(reason.to_string())
    }

    pub(crate) fn failed(reason: impl std::fmt::Display) -> Self {
        Error::Failed(reason.to_string())
    }

    /// The exit code, as clap has it for bad arguments.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            Error::Failed(_) | Error::Output(_) => 1,
        }
    }
}
