//! Bytes into types, else a 4xx here: [`Body`] for JSON, [`Query`], [`Id`] for ids in paths, and the caller.

mod body;
mod caller;
mod conditional;
mod path;
mod prefer;
mod query;

pub use body::Body;
pub use caller::{CallerOf, Meta};
pub use conditional::{answer_with_etag, check_if_match};
pub use path::Id;
pub(crate) use prefer::wait_of;
pub use prefer::{PreferWait, WAIT_MAX};
pub use query::Query;
