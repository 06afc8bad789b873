//! Access tokens: what is accepted, and that nothing forged is.

use crate::world::{HERE, World};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use shared::{Code, accounts::key_files};
use std::{fs, path::PathBuf};
use time::Duration;

/// The parts of a good token, to make bad ones of.
struct Parts {
    header: Value,
    claims: Value,
}

impl Parts {
    fn of(token: &str) -> Self {
        let part = |idx| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(idx).unwrap()).unwrap()).unwrap();
        Self { header: part(0), claims: part(1) }
    }

    fn kid(&self) -> String {
        self.header["kid"].as_str().unwrap().to_owned()
    }

    fn with(&self, name: &str, value: Value) -> Value {
        let mut claims = self.claims.clone();
        claims[name] = value;
        claims
    }
}

fn keys_dir(world: &World) -> PathBuf {
    world.accounts.ctx.settings().jwt_keys_dir.clone()
}

/// Signs as the platform would.
fn sign(world: &World, kid: &str, claims: &Value) -> String {
    let pem = fs::read(keys_dir(world).join(format!("{kid}.pem"))).unwrap();
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::EdDSA) };
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_ed_pem(&pem).unwrap()).unwrap()
}

fn raw(header: &Value, claims: &Value, signature: &str) -> String {
    format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()))
}

#[tokio::test]
async fn a_token_says_what_the_contract_lists() {
    let world = World::new().await;
    let session = world.register("ada@example.org").await;
    let Parts { header, claims } = Parts::of(&session.access_token);
    assert_eq!((header["alg"].as_str(), header["typ"].as_str()), (Some("EdDSA"), Some("JWT")));
    let mut names: Vec<_> = claims.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["aud", "exp", "iat", "iss", "role", "scopes", "sid", "sub", "typ", "ver"]);
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 900);
    assert_eq!((claims["typ"].as_str(), claims["role"].as_str()), (Some("access"), Some("user")));
}

#[tokio::test]
async fn claims_that_do_not_fit_are_refused_although_the_signature_does() {
    let world = World::new().await;
    let parts = Parts::of(&world.register("ada@example.org").await.access_token);
    let sign = |claims: &Value| sign(&world, &parts.kid(), claims);
    assert!(world.accounts.authenticate(&sign(&parts.claims), HERE).await.is_ok());
    for (name, value) in [
        ("aud", json!("others")),
        ("aud", json!(["millrace", "others"])),
        ("iss", json!("others")),
        ("typ", json!("refresh")),
        ("typ", Value::Null),
        ("role", json!("root")),
        ("sub", json!("ada")),
        ("sid", Value::Null),
        ("ver", json!("1")),
        ("exp", json!(i64::MAX)),
        ("exp", Value::Null),
    ] {
        assert_eq!(world.refused(&sign(&parts.with(name, value.clone()))).await, Code::InvalidToken, "{name}={value}");
    }
    assert_eq!(world.refused(&sign(&parts.with("exp", json!(1)))).await, Code::TokenExpired);
}

#[tokio::test]
async fn forged_signatures_are_refused() {
    let world = World::new().await;
    let token = world.register("ada@example.org").await.access_token;
    let (parts, signature) = (Parts::of(&token), token.rsplit('.').next().unwrap());
    let other = {
        let dir = keys_dir(&world).join("other");
        key_files::ensure_keys(&dir).unwrap();
        let kid = key_files::add_signing_key(&dir).unwrap();
        EncodingKey::from_ed_pem(&fs::read(dir.join(format!("{kid}.pem"))).unwrap()).unwrap()
    };
    let header = Header { kid: Some(parts.kid()), ..Header::new(Algorithm::EdDSA) };
    // The public key as a shared secret: what verifiers fell for that took the algorithm from the token.
    let public = world.accounts.public_keys()[0]["x"].as_str().unwrap().to_owned();
    let confused = Header { kid: Some(parts.kid()), ..Header::new(Algorithm::HS256) };
    let public_bytes = URL_SAFE_NO_PAD.decode(&public).unwrap();
    let forged = [
        raw(&json!({"alg": "none", "typ": "JWT"}), &parts.claims, ""),
        raw(&json!({"alg": "none", "typ": "JWT", "kid": parts.kid()}), &parts.claims, ""),
        raw(&json!({"alg": "EdDSA", "kid": parts.kid()}), &parts.claims, ""),
        raw(&json!({"alg": "EdDSA"}), &parts.claims, signature),
        raw(&json!({"alg": "EdDSA", "kid": "../refresh"}), &parts.claims, signature),
        raw(&parts.header, &parts.with("role", json!("admin")), signature),
        jsonwebtoken::encode(&header, &parts.claims, &other).unwrap(),
        jsonwebtoken::encode(&confused, &parts.claims, &EncodingKey::from_secret(&public_bytes)).unwrap(),
        jsonwebtoken::encode(&confused, &parts.claims, &EncodingKey::from_secret(public.as_bytes())).unwrap(),
    ];
    for token in forged {
        assert_eq!(world.refused(&token).await, Code::InvalidToken, "{token}");
    }
}

#[tokio::test]
async fn text_that_is_no_token_is_refused() {
    let world = World::new().await;
    let token = world.register("ada@example.org").await.access_token;
    for text in ["", ".", "..", "a.b.c", "\u{1F600}", &"x".repeat(20 << 10), &format!("{token}.x"), &token[1..], &"[".repeat(8_000)] {
        assert_eq!(world.refused(text).await, Code::InvalidToken);
    }
    let parts = Parts::of(&token);
    let long = sign(&world, &parts.kid(), &parts.with("padding", json!("x".repeat(20 << 10))));
    assert_eq!(world.refused(&long).await, Code::InvalidToken);
}

#[tokio::test]
async fn a_cached_token_ends_on_time() {
    let world = World::new().await;
    let session = world.register("ada@example.org").await;
    world.caller(&session).await;
    // A minute before the end, because the clock runs on while the test does.
    world.advance(Duration::minutes(14));
    world.caller(&session).await;
    world.advance(Duration::minutes(1));
    assert_eq!(world.refused(&session.access_token).await, Code::TokenExpired);
}

#[tokio::test]
async fn without_a_cache_tokens_are_verified_each_time() {
    let world = World::with(&[("TOKEN_CACHE", "0")]).await;
    let session = world.register("ada@example.org").await;
    for _ in 0..3 {
        world.caller(&session).await;
    }
}

#[tokio::test]
async fn keys_are_rotated_without_ending_sessions() {
    let world = World::new().await;
    let old = world.register("ada@example.org").await;
    let old_kid = Parts::of(&old.access_token).kid();
    let new_kid = key_files::add_signing_key(&keys_dir(&world)).unwrap();
    world.accounts.reload_keys().unwrap();
    let new = world.refresh(&old.refresh_token).await.unwrap();
    assert_eq!(Parts::of(&new.access_token).kid(), new_kid);
    world.caller(&old).await;
    assert_eq!(world.accounts.public_keys().len(), 2);
    fs::remove_file(keys_dir(&world).join(format!("{old_kid}.pem"))).unwrap();
    world.accounts.reload_keys().unwrap();
    assert_eq!(world.refused(&old.access_token).await, Code::InvalidToken);
    world.caller(&new).await;
}

#[tokio::test]
async fn the_file_current_names_the_key_that_signs() {
    let world = World::new().await;
    let session = world.register("ada@example.org").await;
    let first = Parts::of(&session.access_token).kid();
    key_files::add_signing_key(&keys_dir(&world)).unwrap();
    fs::write(keys_dir(&world).join("current"), format!("{first}\n")).unwrap();
    world.accounts.reload_keys().unwrap();
    let session = world.refresh(&session.refresh_token).await.unwrap();
    assert_eq!(Parts::of(&session.access_token).kid(), first);
    fs::write(keys_dir(&world).join("current"), "gone").unwrap();
    assert!(world.accounts.reload_keys().is_err());
    world.caller(&session).await;
}

#[tokio::test]
async fn a_shared_secret_signs_too_and_the_kinds_do_not_mix() {
    let secret = [("JWT_ALG", "HS256"), ("JWT_SECRET", "a secret that is long enough for it")];
    let world = World::with(&secret).await;
    let session = world.register("ada@example.org").await;
    assert_eq!(Parts::of(&session.access_token).header["alg"], "HS256");
    world.caller(&session).await;
    assert!(world.refresh(&session.refresh_token).await.is_ok());
    assert!(world.accounts.public_keys().is_empty());
    let other = world.another(&[("JWT_ALG", "HS256"), ("JWT_SECRET", "another secret that is long enough")]).await;
    assert_eq!(other.authenticate(&session.access_token, HERE).await.unwrap_err().code, Code::InvalidToken);
    let asymmetric = world.another(&[secret[1]]).await;
    assert_eq!(asymmetric.authenticate(&session.access_token, HERE).await.unwrap_err().code, Code::InvalidToken);
}

#[tokio::test]
async fn outside_development_missing_keys_are_an_error_that_says_what_to_do() {
    let world = World::new().await;
    let dir = keys_dir(&world).join("empty").display().to_string();
    let ctx = world.stores.context(&[("APP_PROFILE", "production"), ("JWT_KEYS_DIR", &dir)]);
    let error = shared::accounts::Accounts::open(ctx, shared::limits::Limiter::new(1)).await.unwrap_err().to_string();
    assert!(error.contains("token keygen"), "{error}");
}

#[test]
fn key_files_are_private_and_made_once() {
    use std::os::unix::fs::PermissionsExt;
    let dir = std::env::temp_dir().join(format!("mr_keys_{}", uuid::Uuid::new_v4().simple()));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn({
                let dir = dir.clone();
                move || key_files::ensure_keys(&dir)
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap().unwrap();
    }
    let mode = |path: &PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let files: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "pem")).count(), 1);
    assert!(files.iter().all(|path| mode(path) == 0o600) && mode(&dir) == 0o700, "{files:?}");
    fs::remove_dir_all(dir).unwrap();
}
