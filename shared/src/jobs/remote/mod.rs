//! Remote workers: programs in any language that take jobs from queues with `remote: true` over HTTP.
//!
//! [`session`] (who works, and under which nonce), [`lease_token`] (what proves a lease), then one file per operation: [`mod@lease`],
//! [`mod@settle`], [`mod@heartbeat`]. `engine::remote` does what they ask.

pub mod heartbeat;
pub mod lease;
pub mod lease_token;
mod report;
pub mod session;
pub mod settle;

pub use heartbeat::{Beat, Command, Heartbeat, heartbeat};
pub use lease::{LeaseJobs, LeasedJobs, lease};
pub use lease_token::LeaseToken;
pub use session::{OpenSession, Session, WorkerSession, open};
pub use settle::{SettleItem, SettleLeases, Settled, settle};
