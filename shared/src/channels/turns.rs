//! Large answers are read a few at a time, and over a connection of their own: those of everybody who comes back after an outage
//! together would hold up what all the others ask of Redis, until that takes longer than anyone waits.

use crate::{Code, Error, Result};
use std::time::Duration;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

/// What is in flight together comes within the time that Redis has to answer, over a slow network too.
const AT_ONCE: usize = 4;
/// Shorter than clients wait for an answer.
const WITHIN: Duration = Duration::from_secs(3);

/// The turns of a process.
#[derive(Debug)]
pub struct Turns {
    free: Semaphore,
    within: Duration,
    too_many: &'static str,
}

impl Default for Turns {
    fn default() -> Self {
        Self::new("Too much history is being read.")
    }
}

impl Turns {
    /// Says `too_many` to those whose turn does not come.
    pub(super) fn new(too_many: &'static str) -> Self {
        Self { free: Semaphore::new(AT_ONCE), within: WITHIN, too_many }
    }

    /// How long a turn is waited for.
    pub(super) fn within(&self) -> Duration {
        self.within
    }

    /// Those who asked first come first; whose turn does not come in time may ask again.
    pub(super) async fn take(&self) -> Result<SemaphorePermit<'_>> {
        match timeout(self.within, self.free.acquire()).await {
            Ok(turn) => turn.map_err(Error::internal),
            Err(_) => Err(self.refusal()),
        }
    }

    pub(super) fn refusal(&self) -> Error {
        Error::new(Code::Overloaded, self.too_many).retry_after(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whose_turn_does_not_come_in_time_is_sent_away_for_now() {
        let turns = Turns { within: Duration::from_millis(1), ..Turns::default() };
        let mut taken = Vec::new();
        for _ in 0..AT_ONCE {
            taken.push(turns.take().await.unwrap());
        }
        let refused = turns.take().await.unwrap_err();
        assert_eq!((refused.code, refused.retry_after.is_some()), (Code::Overloaded, true));
        taken.pop();
        drop(turns.take().await.unwrap());
    }
}
