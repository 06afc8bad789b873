//! The bytes of large bodies that the process holds at once, over all requests: a crowd of bulk requests is sent away
//! before it fills the memory. Small bodies are bounded by the requests in flight and cost nothing here.

use shared::{Code, Error, Result, telemetry::metrics::HTTP_SHED};
use std::{sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bodies up to this size are free.
const FREE_BYTES: usize = 16 << 10;
/// What one permit stands for.
const UNIT_BYTES: usize = 1 << 10;

/// Shared by all threads of the process.
#[derive(Debug, Clone)]
pub struct BodyBudget(Arc<Semaphore>);

impl BodyBudget {
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / UNIT_BYTES)))
    }

    /// Refuses at once a body whose announced length does not fit at the moment.
    pub(super) fn open(&self, announced: Option<usize>) -> Result<Reservation> {
        let wanted = announced.filter(|bytes| *bytes > FREE_BYTES).map_or(0, |bytes| bytes / UNIT_BYTES);
        if wanted > self.0.available_permits() {
            return Err(exhausted());
        }
        Ok(Reservation { budget: Arc::clone(&self.0), held: None })
    }
}

/// What one body holds of the budget, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Reservation {
    /// Makes sure that `bytes` are covered. It grows with what has arrived, so that a client that only announces much holds nothing.
    pub(super) fn cover(&mut self, bytes: usize) -> Result<()> {
        if bytes <= FREE_BYTES {
            return Ok(());
        }
        let n_held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let n_missing = bytes.div_ceil(UNIT_BYTES).saturating_sub(n_held);
        if n_missing == 0 {
            return Ok(());
        }
        let n_missing = u32::try_from(n_missing).map_err(|_| exhausted())?;
        let more = Arc::clone(&self.budget).try_acquire_many_owned(n_missing).map_err(|_| exhausted())?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }
}

fn exhausted() -> Error {
    metrics::counter!(HTTP_SHED, "reason" => "bodies").increment(1);
    Error::new(Code::Overloaded, "Too many large bodies are being handled.").retry_after(Duration::from_secs(rand::random_range(1..=3)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_share_the_budget_and_give_it_back() {
        let budget = BodyBudget::new(100 << 10);
        let mut first = budget.open(None).unwrap();
        first.cover(60 << 10).unwrap();
        first.cover(80 << 10).unwrap();
        assert!(budget.open(Some(30 << 10)).is_err(), "an announced body that cannot fit is refused before it is read");
        let mut second = budget.open(None).unwrap();
        second.cover(FREE_BYTES).unwrap();
        assert!(second.cover(30 << 10).is_err());
        drop(first);
        second.cover(30 << 10).unwrap();
    }
}
