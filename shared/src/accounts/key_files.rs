//! Keys on disk: one folder (mode 700) with `<kid>.pem` per signing key and `refresh.key` for refresh tokens (mode 600).
//!
//! All signing keys verify. The one that signs is named by the file `current`, else it is the last by name; names made here
//! grow with time. To rotate: add a key, reload every process, name it in `current`, reload, and remove the old one when
//! its last token has ended.

use crate::{Error, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::EncodingKey;
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};
use uuid::Uuid;

const REFRESH_KEY: &str = "refresh.key";
const CURRENT: &str = "current";
const LOCK: &str = ".lock";
const EXTENSION: &str = "pem";

/// What stands before the 32 bytes of an Ed25519 key in PKCS#8 (RFC 8410): version, algorithm 1.3.101.112, two octet strings.
const PKCS8_HEAD: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// The keys as read; `signing` is ordered by name and not empty.
pub(super) struct Found {
    pub signing: Vec<(String, EncodingKey)>,
    pub current: String,
    pub refresh: [u8; 32],
}

/// Makes what is missing of the folder, a signing key and the refresh key. Safe to run at once from several processes.
pub fn ensure_keys(dir: &Path) -> Result<()> {
    locked(dir, || {
        if kids(dir)?.is_empty() {
            write_signing_key(dir)?;
        }
        if !dir.join(REFRESH_KEY).exists() {
            write_private(&dir.join(REFRESH_KEY), &rand::random::<[u8; 32]>())?;
        }
        Ok(())
    })
}

/// Adds a signing key and returns its id; it signs after a reload, unless `current` names another.
pub fn add_signing_key(dir: &Path) -> Result<String> {
    locked(dir, || write_signing_key(dir))
}

pub(super) fn read(dir: &Path) -> Result<Found> {
    let kids = kids(dir).map_err(|error| about(dir, error))?;
    let Some(last) = kids.last().cloned() else {
        let text = format!("{} holds no signing key: run `millrace-api token keygen`, or set JWT_KEYS_DIR", dir.display());
        return Err(Error::internal(text));
    };
    let current = match fs::read_to_string(dir.join(CURRENT)) {
        Ok(name) if kids.iter().any(|kid| kid == name.trim()) => name.trim().to_owned(),
        Ok(name) => return Err(Error::internal(format!("{} names {:?}, which is no key there", dir.join(CURRENT).display(), name.trim()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => last,
        Err(error) => return Err(about(&dir.join(CURRENT), error)),
    };
    let signing = kids.into_iter().map(|kid| read_signing_key(dir, kid)).collect::<Result<_>>()?;
    let refresh_path = dir.join(REFRESH_KEY);
    let refresh = fs::read(&refresh_path).map_err(|error| about(&refresh_path, error))?;
    let refresh = refresh.try_into().map_err(|_| Error::internal(format!("{} is not 32 bytes", refresh_path.display())))?;
    Ok(Found { signing, current, refresh })
}

fn read_signing_key(dir: &Path, kid: String) -> Result<(String, EncodingKey)> {
    let path = key_path(dir, &kid);
    let readable_by_all = fs::metadata(&path).map_err(|error| about(&path, error))?.permissions().mode() & 0o004 != 0;
    if readable_by_all {
        tracing::warn!(path = %path.display(), "a signing key can be read by every user of this machine: chmod 600");
    }
    let pem = fs::read(&path).map_err(|error| about(&path, error))?;
    let key = EncodingKey::from_ed_pem(&pem)
        .map_err(|error| Error::internal(format!("{} is not an Ed25519 key in PKCS#8 PEM: {error}", path.display())))?;
    Ok((kid, key))
}

fn kids(dir: &Path) -> io::Result<Vec<String>> {
    let mut kids = Vec::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(kids),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        let kid = path.file_stem().and_then(|stem| stem.to_str());
        if let Some(kid) = kid.filter(|_| path.extension().is_some_and(|extension| extension == EXTENSION)) {
            kids.push(kid.to_owned());
        }
    }
    kids.sort_unstable();
    Ok(kids)
}

fn write_signing_key(dir: &Path) -> io::Result<String> {
    let der = [&PKCS8_HEAD[..], &rand::random::<[u8; 32]>()].concat();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der));
    // Version 7: names grow with time.
    let kid = Uuid::now_v7().simple().to_string();
    write_private(&key_path(dir, &kid), pem.as_bytes())?;
    Ok(kid)
}

fn key_path(dir: &Path, kid: &str) -> PathBuf {
    dir.join(kid).with_extension(EXTENSION)
}

fn locked<T>(dir: &Path, work: impl FnOnce() -> io::Result<T>) -> Result<T> {
    let result = || {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(dir.join(LOCK))?;
        lock.lock()?;
        work()
    };
    result().map_err(|error| about(dir, error))
}

/// Whole or not at all: a reader never sees half a key.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("draft");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(path.parent().expect("keys lie in a folder"))?.sync_all()
}

fn about(path: &Path, error: io::Error) -> Error {
    Error::internal(format!("{}: {error}", path.display()))
}
