//! Bytes into types, else a 4xx here: [`Body`] for JSON, [`Query`], [`Id`] for ids in paths, [`Items`] for bulk bodies, and the caller.

mod body;
mod budget;
mod caller;
mod conditional;
mod items;
mod path;
mod prefer;
mod query;

pub use body::Body;
pub(crate) use body::parse;
pub use budget::BodyBudget;
pub use caller::{CallerOf, Meta};
pub use conditional::{answer_with_etag, answer_with_etag_of, check_if_match};
pub use items::{Items, JSON_ITEMS_MAX};
pub use path::Id;
pub(crate) use prefer::wait_of;
pub use prefer::{PreferWait, WAIT_MAX};
pub use query::Query;
