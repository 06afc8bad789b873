//! The statements of accounts, one file per table. Each function answers one question; the rules are with the callers.

pub(super) mod api_keys;
pub(super) mod audit;
pub(super) mod prune;
pub(super) mod removal;
pub(super) mod resets;
pub(super) mod revocations;
pub(super) mod sessions;
pub(super) mod users;
