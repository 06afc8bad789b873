//! Refresh tokens: `mrr_<session id>_<generation>_<mac>`. Nothing of them is stored but which generation is good now.
//!
//! The MAC is HMAC-SHA256 over session id, generation and the session's random nonce, so the successor of a token can be
//! given a second time (its answer was lost, or two tabs asked at once) and it is the same one.

use crate::ids::SessionId;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::fmt;
use uuid::Uuid;

const PREFIX: &str = "mrr_";

/// The key of the MACs.
#[derive(Clone)]
pub struct RefreshKey([u8; 32]);

impl fmt::Debug for RefreshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshKey")
    }
}

/// A token as presented: well formed, and not yet known to be ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presented {
    pub session_id: SessionId,
    pub generation: i32,
    mac: [u8; 32],
}

impl RefreshKey {
    pub fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// A key of its own out of a longer-lived secret.
    pub fn derived_from(secret: &[u8]) -> Self {
        let mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length").chain_update(b"millrace refresh tokens");
        Self(mac.finalize().into_bytes().into())
    }

    pub fn mint(&self, session_id: SessionId, generation: i32, nonce: &[u8]) -> String {
        let mac = self.mac(session_id, generation, nonce).finalize().into_bytes();
        format!("{PREFIX}{}_{generation}_{}", session_id.0.simple(), URL_SAFE_NO_PAD.encode(mac))
    }

    /// Whether `presented` was minted with this key for the session that has `nonce`.
    pub fn verify(&self, presented: &Presented, nonce: &[u8]) -> bool {
        self.mac(presented.session_id, presented.generation, nonce).verify_slice(&presented.mac).is_ok()
    }

    fn mac(&self, session_id: SessionId, generation: i32, nonce: &[u8]) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.chain_update(session_id.0.as_bytes()).chain_update(generation.to_be_bytes()).chain_update(nonce)
    }
}

/// `None` when `token` is not in the form that [`RefreshKey::mint`] gives.
pub fn parse(token: &str) -> Option<Presented> {
    let mut parts = token.strip_prefix(PREFIX)?.splitn(3, '_');
    let (session_id, generation, mac) = (parts.next()?, parts.next()?, parts.next()?);
    let canonical = session_id.len() == 32 && generation.len() <= 10 && generation.starts_with(|c: char| ('1'..='9').contains(&c));
    if !canonical {
        return None;
    }
    let mac = URL_SAFE_NO_PAD.decode(mac).ok()?.try_into().ok()?;
    Some(Presented { session_id: SessionId(Uuid::try_parse(session_id).ok()?), generation: generation.parse().ok()?, mac })
}

/// Whether `text` looks like a refresh token, for a clearer refusal where an access token belongs.
pub fn looks_like_one(text: &str) -> bool {
    text.starts_with(PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{prop_assert, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn a_minted_token_verifies_for_its_session_only(generation in 1..i32::MAX, nonce: [u8; 32], other: [u8; 32]) {
            let key = RefreshKey::new([9; 32]);
            let session_id = SessionId::new();
            let presented = parse(&key.mint(session_id, generation, &nonce)).unwrap();
            prop_assert_eq!((presented.session_id, presented.generation), (session_id, generation));
            prop_assert!(key.verify(&presented, &nonce));
            prop_assert!(nonce == other || !key.verify(&presented, &other));
            prop_assert!(!RefreshKey::new([8; 32]).verify(&presented, &nonce));
            let earlier = Presented { generation: generation - 1, ..presented };
            prop_assert!(!key.verify(&earlier, &nonce));
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "(mrr_)?[0-9a-f]{0,40}_?[0-9+-]{0,12}_?.{0,60}") {
            if let Some(presented) = parse(&text) {
                prop_assert!(presented.generation >= 1);
            }
        }
    }
}
