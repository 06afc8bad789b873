//! Passwords to argon2id hashes and back to yes or no: off the async threads, so many at once, so many waiting.

use crate::{Code, Error, Result, telemetry::metrics::PASSWORD_HASHES};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use std::{sync::Arc, time::Duration};
use subtle::ConstantTimeEq;
use tokio::{
    sync::{Semaphore, TryAcquireError},
    task,
};

/// 19 MiB, two passes, one lane: the first choice of OWASP's list for argon2id.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const HASH_BYTES: usize = 32;
const SALT_BYTES: usize = 16;

/// The memory is asked for in a piece above glibc's largest mmap threshold (32 MiB), of which only what a hash needs is
/// touched: so it is given back to the system after each hash, and does not stay in the arena of whichever thread ran it.
const RESERVED_BLOCKS: usize = 33 * 1_024;

/// Verified when there is no such user, so that the answer takes as long. No password has this hash.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Right,
    /// Right, but hashed with other parameters than today's: hash it anew while the password is at hand.
    Outdated,
    Wrong,
}

/// The door to the hash function.
#[derive(Debug, Clone)]
pub struct Passwords {
    /// Hashes computed at once.
    running: Arc<Semaphore>,
    /// Hashes computed or waited for.
    admitted: Arc<Semaphore>,
}

impl Passwords {
    pub fn new(running_max: usize, waiting_max: usize) -> Self {
        Self { running: Arc::new(Semaphore::new(running_max)), admitted: Arc::new(Semaphore::new(running_max + waiting_max)) }
    }

    pub async fn hash(&self, password: &SecretString) -> Result<String> {
        let password = password.clone();
        self.run(move || hash(password.expose_secret().as_bytes(), rand::random())).await?
    }

    /// `stored` is `None` for a user that does not exist: the same work, and `Wrong`.
    pub async fn verify(&self, password: &SecretString, stored: Option<&str>) -> Result<Verdict> {
        let password = password.clone();
        let stored = stored.unwrap_or(NOBODY).to_owned();
        self.run(move || verify(password.expose_secret().as_bytes(), &stored)).await?
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let admitted = match Arc::clone(&self.admitted).try_acquire_owned() {
            Ok(permit) => permit,
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {
                return Err(Error::new(Code::Overloaded, "Too many sign-ins at once.").retry_after(Duration::from_secs(1)));
            }
        };
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(Error::internal)?;
        // The permits go into the task: a request that is dropped does not make room while its hash is still computed.
        let task = task::spawn_blocking(move || {
            let _permits = (admitted, running);
            metrics::gauge!(PASSWORD_HASHES).increment(1.0);
            let result = work();
            metrics::gauge!(PASSWORD_HASHES).decrement(1.0);
            result
        });
        task.await.map_err(Error::internal)
    }
}

fn hash(password: &[u8], salt: [u8; SALT_BYTES]) -> Result<String> {
    let hash = compute(password, &salt, MEMORY_KIB, PASSES, LANES)?;
    let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
    Ok(format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${hash}"))
}

fn verify(password: &[u8], stored: &str) -> Result<Verdict> {
    let stored = Stored::parse(stored).ok_or_else(|| Error::internal("a stored password hash is not one of ours"))?;
    let hash = compute(password, &stored.salt, stored.memory_kib, stored.passes, stored.lanes)?;
    if !bool::from(hash.as_slice().ct_eq(&stored.hash)) {
        return Ok(Verdict::Wrong);
    }
    let current = (stored.memory_kib, stored.passes, stored.lanes) == (MEMORY_KIB, PASSES, LANES);
    Ok(if current { Verdict::Right } else { Verdict::Outdated })
}

fn compute(password: &[u8], salt: &[u8], memory_kib: u32, passes: u32, lanes: u32) -> Result<[u8; HASH_BYTES]> {
    let params = Params::new(memory_kib, passes, lanes, Some(HASH_BYTES)).map_err(Error::internal)?;
    let mut memory: Vec<Block> = Vec::with_capacity(RESERVED_BLOCKS.max(params.block_count()));
    memory.resize(params.block_count(), Block::new());
    let mut hash = [0; HASH_BYTES];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(password, salt, &mut hash, &mut memory)
        .map_err(Error::internal)?;
    Ok(hash)
}

/// A hash in the PHC string format, as [`hash`] writes it.
struct Stored {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Stored {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("$argon2id$v=19$")?.split('$');
        let (parameters, salt, hash) = (parts.next()?, parts.next()?, parts.next()?);
        let mut parameters = parameters.split(',');
        let mut parameter = |name: &str| parameters.next()?.strip_prefix(name)?.strip_prefix('=')?.parse().ok();
        Some(Self {
            memory_kib: parameter("m")?,
            passes: parameter("t")?,
            lanes: parameter("p")?,
            salt: STANDARD_NO_PAD.decode(salt).ok()?,
            hash: STANDARD_NO_PAD.decode(hash).ok()?,
        })
    }
}

#[cfg(test)]
mod tests;
