//! From a token to what it proves: our own access tokens and API keys, and tokens of the claim set that Centrifugo's clients and
//! backends use, signed with the secret that we share with the backend (`CHANNEL_TOKEN_HMAC_SECRET`) or with a key of ours.

mod claims;

use super::{Admission, Audience, Authority, ChannelName, ServerSubscription, Subject, SubscriptionGrant, TokenError, USER};
use crate::{
    Code, Context, Error, Scope,
    accounts::{Accounts, Proof, access_token::TOKEN_BYTES_MAX, secret_token},
};
use claims::{ConnectionClaims, SubscriptionClaims, Timed};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use secrecy::ExposeSecret as _;
use serde::de::DeserializeOwned;
use std::net::IpAddr;

/// `typ` of the subscription tokens that a key of ours signed; any other of our tokens is none.
const SUBSCRIPTION_TYPE: &str = "subscription";

/// Who connects with `token` from `address`, and to what it subscribes them. Without a token: anonymous, where that is allowed.
pub async fn admit(accounts: &Accounts, token: Option<&str>, address: IpAddr) -> Result<Admission, TokenError> {
    let settings = accounts.ctx.settings();
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        let subject = match (settings.realtime_insecure, settings.ws_anonymous) {
            (true, _) => Subject { authority: Authority::Insecure, ..Subject::anonymous() },
            (false, true) => Subject::anonymous(),
            (false, false) => return Err(TokenError::Missing),
        };
        return Ok(Admission { subject, subscriptions: Vec::new() });
    };
    drop(settings);
    match signer(accounts, token)? {
        Signer::Account => match accounts.prove(token, address).await {
            Ok(proof) => Ok(admit_account(&accounts.ctx, proof)),
            Err(error) => Err(refusal(error)),
        },
        Signer::Shared => admit_claims(timely(&accounts.ctx, verify_shared::<ConnectionClaims>(&accounts.ctx, token)?)?, Authority::Token),
        Signer::Nobody => {
            let mut admission = admit_claims(unverified(token)?, |_| Authority::Insecure)?;
            admission.subject.expires_at = None;
            Ok(admission)
        }
    }
}

/// What a token for a subscription grants to `subject`, whose connection is `client`.
pub fn verify_subscription_token(
    accounts: &Accounts,
    subject: &Subject,
    client: &str,
    token: &str,
) -> Result<SubscriptionGrant, TokenError> {
    let ctx = &accounts.ctx;
    let claims: SubscriptionClaims = match signer(accounts, token)? {
        Signer::Account => {
            let claims: SubscriptionClaims = accounts.verify_signed(token).map_err(refusal)?;
            if claims.typ.as_deref() != Some(SUBSCRIPTION_TYPE) {
                return Err(TokenError::Invalid);
            }
            timely(ctx, claims)?
        }
        Signer::Shared => timely(ctx, verify_shared(ctx, token)?)?,
        Signer::Nobody => return Ok(SubscriptionGrant { expires_at: None, ..grant(unverified::<SubscriptionClaims>(token)?)? }),
    };
    let is_theirs = claims.sub == *subject.user && claims.client.as_deref().is_none_or(|named| named.is_empty() || named == client);
    if is_theirs { grant(claims) } else { Err(TokenError::Invalid) }
}

/// Whose signature a token claims to have.
enum Signer {
    /// A key of ours, or it is an API key.
    Account,
    /// The secret that we share with another backend.
    Shared,
    /// `REALTIME_INSECURE`: it does not matter.
    Nobody,
}

fn signer(accounts: &Accounts, token: &str) -> Result<Signer, TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::Invalid);
    }
    let settings = accounts.ctx.settings();
    if token.starts_with(secret_token::API_KEY) {
        return Ok(Signer::Account);
    }
    let header = jsonwebtoken::decode_header(token);
    let names_ours = header.as_ref().is_ok_and(|header| header.kid.as_deref().is_some_and(|kid| accounts.knows_key(kid)));
    match header {
        _ if names_ours => Ok(Signer::Account),
        _ if settings.realtime_insecure => Ok(Signer::Nobody),
        // RFC 7515: a critical extension that is not understood makes the token invalid, and we understand none.
        Ok(header) if header.crit.is_none() && SHARED_ALGORITHMS.contains(&header.alg) && settings.channel_token_hmac_secret.is_some() => {
            Ok(Signer::Shared)
        }
        Ok(_) | Err(_) => Err(TokenError::Invalid),
    }
}

const SHARED_ALGORITHMS: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];

fn verify_shared<T: DeserializeOwned>(ctx: &Context, token: &str) -> Result<T, TokenError> {
    let settings = ctx.settings();
    let Some(secret) = &settings.channel_token_hmac_secret else { return Err(TokenError::Invalid) };
    let verified = jsonwebtoken::decode(token, &DecodingKey::from_secret(secret.expose_secret().as_bytes()), &shared_validation());
    verified.map(|token| token.claims).map_err(|_| TokenError::Invalid)
}

fn shared_validation() -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.algorithms = SHARED_ALGORITHMS.to_vec();
    validation.required_spec_claims.clear();
    validation.validate_aud = false;
    // Time comes from the context's clock; see `timely`.
    validation.validate_exp = false;
    validation
}

fn unverified<T: DeserializeOwned>(token: &str) -> Result<T, TokenError> {
    jsonwebtoken::dangerous::insecure_decode_claims(token).map_err(|_| TokenError::Invalid)
}

/// The claims, if their time has come and has not passed.
fn timely<T: Timed>(ctx: &Context, claims: T) -> Result<T, TokenError> {
    let now = ctx.clock.now();
    if claims.not_before()?.is_some_and(|not_before| not_before > now) {
        return Err(TokenError::Invalid);
    }
    if claims.expires_at()?.is_some_and(|expires_at| expires_at <= now) { Err(TokenError::Expired) } else { Ok(claims) }
}

fn refusal(error: Error) -> TokenError {
    if error.code == Code::TokenExpired {
        TokenError::Expired
    } else if error.code == Code::InvalidToken {
        TokenError::Invalid
    } else {
        TokenError::Failed(error)
    }
}

fn admit_account(ctx: &Context, proof: Proof) -> Admission {
    let user = proof.caller.user_id.to_string();
    let personal = format!("{USER}:#{user}");
    let may_read = proof.caller.scopes.contains(Scope::ChannelsRead);
    let subscriptions = ctx
        .namespaces
        .resolve(&personal)
        .ok()
        .filter(|channel| may_read && channel.namespace.audience == Audience::Personal)
        .map(|channel| ServerSubscription { channel: channel.name, chan_info: None, data: None });
    let subject = Subject { user: user.into(), authority: Authority::Account(proof), conn_info: None, expires_at: proof.ends_at };
    Admission { subject, subscriptions: subscriptions.into_iter().collect() }
}

fn admit_claims(
    claims: ConnectionClaims,
    authority: impl FnOnce(std::sync::Arc<[super::Capability]>) -> Authority,
) -> Result<Admission, TokenError> {
    if claims.is_for_a_subscription() {
        return Err(TokenError::Invalid);
    }
    let (expires_at, conn_info) = (claims.ends_at()?, claims.info()?);
    let subscriptions = claims.subscriptions()?;
    let subject = Subject { user: claims.sub.as_str().into(), authority: authority(claims.capabilities().into()), conn_info, expires_at };
    Ok(Admission { subject, subscriptions })
}

fn grant(claims: SubscriptionClaims) -> Result<SubscriptionGrant, TokenError> {
    let channel = ChannelName::new(&claims.channel).map_err(|_| TokenError::Invalid)?;
    Ok(SubscriptionGrant { channel, chan_info: claims.info()?, expires_at: claims.ends_at()? })
}
