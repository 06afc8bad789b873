//! The token of a lease as workers hold it: opaque to them, and all that any process needs to settle it.

use crate::{
    Error, Result,
    jobs::{
        QueueName,
        engine::{Nonce, Token},
    },
};
use std::fmt;

/// `<job id>.<attempt>.<nonce>.<queue>`. The nonce is the session's secret: who does not hold a token cannot make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseToken {
    pub token: Token,
    pub queue: QueueName,
}

impl LeaseToken {
    pub fn parse(text: &str, pointer: impl FnOnce() -> String) -> Result<Self> {
        let mut parts = text.splitn(4, '.');
        let mut parse = || {
            Some(Self {
                token: Token {
                    job_id: parts.next()?.parse().ok()?,
                    attempt: parts.next()?.parse().ok()?,
                    nonce: Nonce(parts.next()?.parse().ok()?),
                },
                queue: QueueName::new(parts.next()?).ok()?,
            })
        };
        parse().ok_or_else(|| Error::invalid(pointer(), "lease_token", "is not a token that this platform gives"))
    }
}

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Token { job_id, attempt, nonce } = self.token;
        write!(f, "{job_id}.{attempt}.{nonce}.{}", self.queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::JobId;
    use rstest::rstest;

    #[test]
    fn a_token_reads_as_it_was_written() {
        let token = Token { job_id: JobId::new(), attempt: 7, nonce: Nonce::new() };
        let lease = LeaseToken { token, queue: "eu.mail-1".parse().unwrap() };
        assert_eq!(LeaseToken::parse(&lease.to_string(), String::new).unwrap(), lease);
    }

    #[rstest]
    #[case::empty("")]
    #[case::no_queue("01a1fb40-f998-71ea-83d1-3bd51ccbb3da.1.01a1fb40f99871ea83d13bd51ccbb3da")]
    #[case::no_attempt("01a1fb40-f998-71ea-83d1-3bd51ccbb3da..01a1fb40f99871ea83d13bd51ccbb3da.q")]
    #[case::no_name("01a1fb40-f998-71ea-83d1-3bd51ccbb3da.1.01a1fb40f99871ea83d13bd51ccbb3da.a b")]
    fn anything_else_is_refused(#[case] text: &str) {
        LeaseToken::parse(text, String::new).unwrap_err();
    }
}
