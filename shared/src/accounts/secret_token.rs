//! Random secrets that carry the id of their row: API keys (`mr_<id>_<secret>`) and password resets (`mrp_…`).
//!
//! The secret is 43 characters of 62, more than 255 bits, so a plain SHA-256 is all that need be stored of it.

use rand::{RngExt, distr::Alphanumeric};
use sha2::{Digest, Sha256};
use uuid::Uuid;

pub const API_KEY: &str = "mr_";
pub const PASSWORD_RESET: &str = "mrp_";

const SECRET_CHARS: usize = 43;

/// The id in a presented token, and the hash of its secret to compare with the row's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    pub id: Uuid,
    pub secret_hash: [u8; 32],
}

/// A new token for row `id`, and what to store of it.
pub fn mint(prefix: &str, id: Uuid) -> (String, [u8; 32]) {
    let secret: String = rand::rng().sample_iter(Alphanumeric).take(SECRET_CHARS).map(char::from).collect();
    (format!("{prefix}{}_{secret}", id.simple()), hash(&secret))
}

/// The first part of a token, which is no secret.
pub fn visible_part(prefix: &str, id: Uuid) -> String {
    format!("{prefix}{}", id.simple())
}

/// `None` when `token` is not in the form that [`mint`] gives.
pub fn parse(prefix: &str, token: &str) -> Option<Presented> {
    let (id, secret) = token.strip_prefix(prefix)?.split_once('_')?;
    let well_formed = id.len() == 32 && secret.len() == SECRET_CHARS && secret.bytes().all(|b| b.is_ascii_alphanumeric());
    if !well_formed {
        return None;
    }
    Some(Presented { id: Uuid::try_parse(id).ok()?, secret_hash: hash(secret) })
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_row_and_proves_its_secret() {
        let id = Uuid::now_v7();
        let (token, secret_hash) = mint(API_KEY, id);
        assert_eq!(parse(API_KEY, &token), Some(Presented { id, secret_hash }));
        assert!(token.starts_with(&visible_part(API_KEY, id)));
        assert_eq!(parse(PASSWORD_RESET, &token), None);
        let last = if token.ends_with('x') { "y" } else { "x" };
        let forged = format!("{}{last}", &token[..token.len() - 1]);
        assert_ne!(parse(API_KEY, &forged).unwrap().secret_hash, secret_hash);
    }

    #[test]
    fn other_text_is_not_a_token() {
        let (token, _) = mint(API_KEY, Uuid::now_v7());
        for wrong in ["", "mr_", "mr__", "mr_x_y", &token[1..], &token[..token.len() - 1], &format!("{token}A"), &token.replace('_', "-")] {
            assert_eq!(parse(API_KEY, wrong), None, "{wrong}");
        }
    }
}
