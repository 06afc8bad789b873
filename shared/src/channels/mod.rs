//! Channels: what is published to whoever listens now, what is kept of it, and who may. In reading order:
//!
//! - `name`, `namespace`, `namespaces`: a channel, and the rules it comes under.
//! - `position`, `publication`, `delivery`: the nouns of a channel's life. `error`: why something was refused.
//! - `publish`, `history`: the two sides of what is kept, each one script (`*.lua` beside). `recovery`: how a subscription begins without missing anything.
//! - `turns`: who may read next. `persist`: what is kept beyond what Redis keeps.
//! - `link`: how a process hears of publications. `control`: how it orders connections about, wherever they are held.
//! - [`requests`], [`administration`], [`listing`], [`publish_job`]: what is asked without a connection.
//! - `presence`: who is subscribed. `connections`: how many a user has. `sessions`: what the server subscribes a user to.
//! - `subject`: who holds a connection. `token`: how they prove it. `permission`: what they may.
//!
//! Nothing here knows a socket or the protocol: the edge in `api` maps these types to its frames and codes.

pub mod administration;
pub mod connections;
mod control;
mod delivery;
mod error;
mod history;
mod link;
pub mod listing;
mod name;
mod namespace;
mod namespaces;
mod permission;
pub mod persist;
mod position;
pub mod presence;
mod publication;
mod publish;
pub mod publish_job;
pub mod recovery;
pub mod requests;
mod scripts;
pub mod sessions;
mod subject;
mod token;
mod turns;

pub use control::control;
pub use delivery::{Addressee, Control, Delivery};
pub use error::ChannelError;
pub use history::{Direction, Filter, HISTORY_READ_MAX, History, history, history_remove, missed, position, positions};
pub use link::Link;
pub use name::{ChannelName, NAME_BYTES_MAX};
pub use namespace::{Audience, Channel, HistoryRules, Namespace, Offer, Who};
pub use namespaces::{NamespaceTable, Namespaces, SYSTEM, USER};
pub use permission::may;
pub use position::{EPOCH_BYTES_MAX, Position};
pub use publication::{ClientInfo, NewPublication, Publication, PublicationData};
pub use publish::publish;
pub use subject::{
    Action, Admission, Authority, Capability, Membership, Pattern, ServerSubscription, Subject, SubscriptionGrant, TokenError,
};
pub use token::{admit, verify_subscription_token};
pub use turns::{HistoryTurns, Reader};

#[cfg(test)]
mod tests;
