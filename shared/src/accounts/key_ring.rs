//! The keys a process signs and verifies with. The algorithm is pinned to the key's id: what a token says of it is only
//! compared, and an id that is not here is refused.

use super::{key_files, refresh_token::RefreshKey};
use crate::{
    Code, Error, Result,
    config::{JwtAlgorithm, Settings},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation,
    jwk::{Jwk, PublicKeyUse},
};
use secrecy::ExposeSecret;
use serde::{Serialize, de::DeserializeOwned};
use sha2::Sha256;
use std::collections::HashMap;

#[derive(Debug)]
pub struct KeyRing {
    header: Header,
    signing: EncodingKey,
    verifying: HashMap<String, Verifying>,
    public: Vec<Jwk>,
    pub refresh: RefreshKey,
}

#[derive(Debug)]
struct Verifying {
    key: DecodingKey,
    validation: Validation,
}

impl KeyRing {
    pub fn load(settings: &Settings) -> Result<Self> {
        match settings.jwt_alg {
            JwtAlgorithm::EdDsa => Self::from_files(settings),
            JwtAlgorithm::Hs256 => Self::from_secret(settings),
        }
    }

    fn from_files(settings: &Settings) -> Result<Self> {
        let found = key_files::read(&settings.jwt_keys_dir)?;
        let (mut verifying, mut public, mut signing) = (HashMap::new(), Vec::new(), None);
        for (kid, key) in found.signing {
            let mut jwk = Jwk::from_encoding_key(&key, Algorithm::EdDSA).map_err(Error::internal)?;
            jwk.common.key_id = Some(kid.clone());
            jwk.common.public_key_use = Some(PublicKeyUse::Signature);
            let verifying_key = DecodingKey::from_jwk(&jwk).map_err(Error::internal)?;
            verifying.insert(kid.clone(), Verifying { key: verifying_key, validation: validation(settings, Algorithm::EdDSA) });
            public.push(jwk);
            if kid == found.current {
                signing = Some(key);
            }
        }
        let signing = signing.expect("the current key is one of those read");
        let header = header(Algorithm::EdDSA, found.current);
        Ok(Self { header, signing, verifying, public, refresh: RefreshKey::new(found.refresh) })
    }

    fn from_secret(settings: &Settings) -> Result<Self> {
        let secret = settings.jwt_secret.as_ref().ok_or_else(|| Error::internal("JWT_ALG=HS256 needs JWT_SECRET"))?;
        let secret = secret.expose_secret().as_bytes();
        let kid = symmetric_kid(secret);
        let verifying = Verifying { key: DecodingKey::from_secret(secret), validation: validation(settings, Algorithm::HS256) };
        Ok(Self {
            header: header(Algorithm::HS256, kid.clone()),
            signing: EncodingKey::from_secret(secret),
            verifying: HashMap::from([(kid, verifying)]),
            public: Vec::new(),
            refresh: RefreshKey::derived_from(secret),
        })
    }

    pub fn sign(&self, claims: &impl Serialize) -> Result<String> {
        jsonwebtoken::encode(&self.header, claims, &self.signing).map_err(Error::internal)
    }

    /// Signature, algorithm, issuer and audience; the caller judges time and type.
    pub fn verify<T: DeserializeOwned>(&self, token: &str) -> Result<T> {
        let invalid = || Error::new(Code::InvalidToken, "The access token or API key is not one of ours.");
        let header = jsonwebtoken::decode_header(token).map_err(|error| invalid().caused_by(error))?;
        let verifying = header.kid.as_deref().and_then(|kid| self.verifying.get(kid)).ok_or_else(invalid)?;
        // RFC 7515: a critical extension that is not understood makes the token invalid, and we understand none.
        if header.crit.is_some() {
            return Err(invalid());
        }
        let verified = jsonwebtoken::decode(token, &verifying.key, &verifying.validation).map_err(|error| invalid().caused_by(error))?;
        Ok(verified.claims)
    }

    pub fn knows(&self, kid: &str) -> bool {
        self.verifying.contains_key(kid)
    }

    pub fn public_keys(&self) -> Vec<serde_json::Value> {
        self.public.iter().map(|key| serde_json::to_value(key).expect("a JWK is plain data")).collect()
    }
}

fn header(algorithm: Algorithm, kid: String) -> Header {
    Header { kid: Some(kid), ..Header::new(algorithm) }
}

fn validation(settings: &Settings, algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.set_issuer(&[&settings.jwt_issuer]);
    validation.set_audience(&[&settings.jwt_audience]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    // Time comes from the context's clock; see `access_token::verify`.
    validation.validate_exp = false;
    validation
}

/// An id that changes with the secret and tells nothing of it.
fn symmetric_kid(secret: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length").chain_update(b"millrace key id");
    let bytes = mac.finalize().into_bytes();
    format!("hs-{:02x}{:02x}{:02x}{:02x}", bytes[0], bytes[1], bytes[2], bytes[3])
}
