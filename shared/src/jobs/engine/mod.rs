//! The engine: how a committed row becomes a running attempt and a recorded outcome, whatever dies meanwhile.
//!
//! In reading order: [`token`] and [`copy`] (the fence, and what Redis holds of a job), [`scripts`] (the race, in Lua),
//! [`outcome`] (what an end means), [`settle`] and `store` (the guarded statement), [`mod@cancel`] (jobs taken from outside),
//! [`mod@leases`] (who runs what), [`salvage`] (what a process leaves that crashed), [`volatile`] (jobs without a row),
//! [`followers`] (jobs whose channel somebody is subscribed to), [`remote`] (workers outside this platform), [`parking`] (jobs that wait
//! for a word from outside), [`hurry`] (jobs whose wait is over early).

pub mod allowance;
pub mod cancel;
pub mod copy;
pub mod discovery;
pub mod doorbell;
pub mod expire;
pub(in crate::jobs) mod figures;
pub mod followers;
pub mod heartbeat;
pub mod held;
pub mod hurry;
mod lane;
pub mod leaser;
pub mod leases;
mod limits;
mod load;
mod meters;
pub mod outcome;
pub mod parking;
pub mod progress;
pub mod rates;
pub mod reconcile;
pub mod relay;
pub mod remote;
pub mod salvage;
pub mod scripts;
mod settle;
mod store;
pub mod timekeeping;
pub mod token;
pub mod upkeep;
pub mod volatile;
pub mod watchdog;
mod writers;

pub use cancel::{CancelAnswer, MadeWay, cancel, end_waiting, forget, take_to_delete};
pub use copy::{Enqueue, INLINE_PAYLOAD_BYTES, Standing, Volatile};
pub use leases::{Depths, Lease, Paused, depths, forget_queue, leases, running, set_paused};
pub use limits::{Limits, set_limits};
pub use outcome::Outcome;
pub use scripts::{IDS_MAX, QueueKeys, Taken, enqueue};
pub use store::QueueRow;
pub use token::{Nonce, Token};

use crate::{Context, Result};
use scripts::{Finish, Holder, Step};
use std::time::Duration;

/// Ends leases outside a worker's beat.
async fn apply(ctx: &Context, keys: &QueueKeys, finishes: Vec<Finish>) -> Result<()> {
    let holder = Holder { nonce: Nonce::new(), worker_id: String::new(), lease: Duration::ZERO };
    let mut connection = ctx.redis.connection();
    let mut rest = finishes;
    while !rest.is_empty() {
        let later = rest.split_off(rest.len().min(IDS_MAX));
        let stepped = scripts::step(&mut connection, keys, &holder, &Step { finish: rest, ..Step::default() }).await?;
        for job_id in stepped.cancelled {
            Box::pin(cancel(ctx, &keys.queue, job_id)).await?;
        }
        rest = later;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
