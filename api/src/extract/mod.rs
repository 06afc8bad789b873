//! Bytes into types, else a 4xx here: [`Body`] for JSON, [`Query`], [`Id`] for ids in paths, [`Items`] for bulk bodies, [`ChannelOf`] for channels in paths, and the caller.

mod body;
mod budget;
mod caller;
mod channel;
mod conditional;
mod incoming;
mod items;
mod line_buffer;
mod lines;
mod path;
mod prefer;
mod query;

pub use body::{Body, RawBody};
pub(crate) use body::{parse, read, refuse_encoding};
pub use budget::BodyBudget;
pub use caller::{CallerOf, Meta};
pub use channel::ChannelOf;
pub use conditional::{answer_with_etag, answer_with_etag_of, check_if_match};
pub(crate) use conditional::{check_if_match_names, names};
pub(crate) use items::parse_item;
pub use items::{Items, JSON_ITEMS_MAX};
pub(crate) use lines::Lines;
pub use path::Id;
pub(crate) use prefer::wait_of;
pub use prefer::{Patience, PreferWait, WAIT_MAX};
pub use query::Query;
