//! Who holds a delivery: the fence against workers that were given up on.

use crate::ids::JobId;
use std::fmt;
use uuid::Uuid;

/// 128 random bits of one leasing process; kept in PostgreSQL as a `uuid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nonce(pub Uuid);

impl Nonce {
    #[expect(clippy::new_without_default, reason = "a default nonce would be a hidden source of randomness")]
    pub fn new() -> Self {
        Self(Uuid::from_u128(rand::random()))
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_simple().fmt(f)
    }
}

/// One delivery of one job to one process. Only who shows it may settle or extend the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    pub job_id: JobId,
    pub attempt: i32,
    pub nonce: Nonce,
}

impl Token {
    /// As the scripts compare it; the job's id travels beside it.
    pub(super) fn text(&self) -> String {
        format!("{}:{}", self.attempt, self.nonce)
    }
}
