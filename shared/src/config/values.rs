//! The types that settings have beyond numbers and text, each with how it is written and what is allowed.

use crate::telemetry::traces::Sampler;
use ipnet::IpNet;
use secrecy::SecretString;
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// A value that can be read from the text of a setting. `Err` says what is allowed.
pub(super) trait Value: Sized {
    /// Secrets are masked in every message and may come from a file named by `<NAME>_FILE`.
    const SECRET: bool = false;

    fn parse(text: &str) -> Result<Self, String>;
}

macro_rules! parsed_by_from_str {
    ($($ty:ty => $allowed:literal,)*) => {$(
        impl Value for $ty {
            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| $allowed.to_owned())
            }
        }
    )*};
}

parsed_by_from_str! {
    u16 => "a whole number, 0 to 65535",
    u32 => "a whole number",
    u64 => "a whole number",
    usize => "a whole number",
    f64 => "a number",
    IpAddr => "an IP address",
    SocketAddr => "<address>:<port>",
    String => "text",
}

impl Value for bool {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "on" | "true" | "1" | "yes" => Ok(true),
            "off" | "false" | "0" | "no" => Ok(false),
            _ => Err("on or off".to_owned()),
        }
    }
}

impl Value for SecretString {
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }
}

impl Value for PathBuf {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }
}

/// Empty means none; so does `none`, for settings that have something as their default.
impl<T: Value> Value for Option<T> {
    const SECRET: bool = T::SECRET;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text == "none" { Ok(None) } else { T::parse(text).map(Some) }
    }
}

/// Comma-separated; empty means none.
impl<T: Value> Value for Vec<T> {
    fn parse(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(T::parse)
            .collect::<Result<_, _>>()
            .map_err(|allowed| format!("a comma-separated list, each {allowed}"))
    }
}

impl Value for IpNet {
    fn parse(text: &str) -> Result<Self, String> {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map_err(|_| "an address or a network such as 10.0.0.0/8".to_owned())
    }
}

/// `auto`, or a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auto<T> {
    Auto,
    Set(T),
}

impl<T: Copy> Auto<T> {
    pub fn unwrap_or_else(self, automatic: impl FnOnce() -> T) -> T {
        match self {
            Self::Auto => automatic(),
            Self::Set(value) => value,
        }
    }
}

impl<T: Value> Value for Auto<T> {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "auto" { Ok(Self::Auto) } else { T::parse(text).map(Self::Set).map_err(|allowed| format!("auto, or {allowed}")) }
    }
}

/// So many per unit of time, written `600/m` (s, m, h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub limit: u32,
    pub per: Duration,
}

impl Value for Rate {
    fn parse(text: &str) -> Result<Self, String> {
        let allowed = || "a rate such as 600/m: 1 to 100000000 per s, m or h".to_owned();
        let (limit, unit) = text.split_once('/').ok_or_else(allowed)?;
        let limit = limit.trim().parse().map_err(|_| allowed())?;
        let per = match unit.trim() {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_mins(1),
            "h" => Duration::from_hours(1),
            _ => return Err(allowed()),
        };
        if (1..=100_000_000).contains(&limit) { Ok(Self { limit, per }) } else { Err(allowed()) }
    }
}

/// A size in bytes, written as a number or with KiB, MiB, GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub usize);

impl Value for Bytes {
    fn parse(text: &str) -> Result<Self, String> {
        let allowed = || "a size such as 262144, 256KiB or 1MiB, at most 1GiB".to_owned();
        let bytes = bytes(text).filter(|bytes| *bytes <= 1 << 30).ok_or_else(allowed)?;
        usize::try_from(bytes).map(Self).map_err(|_| allowed())
    }
}

/// A size of what is kept on disks, and so larger than any that memory is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskBytes(pub u64);

impl Value for DiskBytes {
    fn parse(text: &str) -> Result<Self, String> {
        let bytes = bytes(text).filter(|bytes| *bytes <= 1 << 50);
        bytes.map(Self).ok_or_else(|| "a size such as 500MiB, 10GiB or 2TiB, at most 1024TiB".to_owned())
    }
}

fn bytes(text: &str) -> Option<u64> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let factor = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Where the contents of files are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageUrl {
    Folder(PathBuf),
    /// The prefix has no slash at either end, and may be empty.
    S3 {
        bucket: String,
        prefix: String,
    },
}

impl Value for StorageUrl {
    fn parse(text: &str) -> Result<Self, String> {
        let allowed = || "file://<folder>, or s3://<bucket> with /<prefix> if wanted".to_owned();
        if let Some(folder) = text.strip_prefix("file://") {
            return if folder.is_empty() { Err(allowed()) } else { Ok(Self::Folder(folder.into())) };
        }
        let place = text.strip_prefix("s3://").ok_or_else(allowed)?;
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let is_plain =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) && part != "..";
        let prefix = prefix.trim_end_matches('/');
        if !is_plain(bucket) || !(prefix.is_empty() || prefix.split('/').all(is_plain)) {
            return Err(allowed());
        }
        Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($variant,)* }

        impl Value for $name {
            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    _ => Err(["one of", $($text),*].join(" ")),
                }
            }
        }
    )*};
}

choices! {
    /// How access tokens are signed. RSA is deliberately absent.
    JwtAlgorithm { EdDsa = "EdDSA", Hs256 = "HS256" }
    /// Whether strangers may make accounts.
    Registration { Open = "open", Closed = "closed" }
    /// Who may read documentation and metrics on the API's own port.
    Exposure { Public = "public", Operator = "operator", Off = "off" }
    LogFormat { Json = "json", Pretty = "pretty" }
    /// Where a trusted proxy says who calls.
    ClientAddressHeader { XForwardedFor = "x-forwarded-for", Forwarded = "forwarded" }
    /// What decides how many requests may be in flight.
    ConcurrencyMode { Fixed = "fixed", Adaptive = "adaptive" }
}

/// Web origins that may call us from a browser: exact `scheme://host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origins(pub Vec<String>);

impl Value for Origins {
    fn parse(text: &str) -> Result<Self, String> {
        let origins = Vec::<String>::parse(text)?;
        let well_formed = |origin: &String| {
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', '?', '#', ' ']))
        };
        if origins.iter().all(well_formed) {
            Ok(Self(origins))
        } else {
            Err("comma-separated origins such as https://app.example.org, without path or wildcard".to_owned())
        }
    }
}

impl Value for Sampler {
    fn parse(text: &str) -> Result<Self, String> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, sampler)| *sampler).ok_or_else(|| Self::NAMES.map(|(name, _)| name).join(", "))
    }
}

impl Value for super::Profile {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
    }
}
