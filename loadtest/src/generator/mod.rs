//! Load on one address: threads, each with its own event loop, connections and histograms, so
//! that nothing is shared while requests fly.
//!
//! `plan` says what to send and how fast · `numbering` makes requests that are sent again differ · `threads` runs one plan, a `worker` on each · `connection` is the loop of
//! one connection · `pace` decides when it sends next · `timer` wakes the open loop on time ·
//! `recorder` counts and measures, `counts` takes a histogram to another process.

mod connection;
mod counts;
mod numbering;
mod pace;
mod plan;
mod recorder;
mod threads;
mod timer;
mod worker;

pub(crate) use counts::Counts;
pub(crate) use numbering::{NUMBER_PLACE, Numbering};
pub(crate) use plan::{Budget, Harvest, Pace, Plan, SourceAddresses, Window};
pub(crate) use recorder::{Recorder, new_histogram};
pub(crate) use threads::{Load, Progress, connect, run};
