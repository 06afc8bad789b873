//! Accounts on the real servers: every rule of sign-in, tokens, keys and revocation. One file per group of operations.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access_tokens;
mod api_keys;
mod command_line;
mod login;
mod password;
mod refresh;
mod register;
mod removal;
mod revocation;
mod sessions;
mod users;
mod world;
