//! Which addresses requests to the outside may go to: public ones, and those of `OUTBOUND_ALLOW`.
//!
//! A name is resolved once for each exchange, all of its addresses are judged, and the connection goes to one of those that were: a
//! name that answers differently the second time gains nothing. What cannot be said with certainty to be public is refused.

mod lookup;

use futures_util::future::BoxFuture;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};
use tracing::field;
use url::{Host, Url};

/// Longest URL that is taken.
const URL_MAX: usize = 2_048;
/// Addresses of one name that are judged; a name with more is refused.
const ADDRESSES_MAX: usize = 64;

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

/// Networks that are not the public internet's (IANA's registry of special-purpose addresses), multicast and reserved ones.
const FORBIDDEN_V4: &[Ipv4Net] = &[
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    // The platform of Azure's machines (WireServer), which is public by its number alone.
    v4(168, 63, 129, 16, 32),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
];

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// All that is public lies in this one network.
const PUBLIC_V6: Ipv6Net = v6(0x2000, 0, 0, 3);
/// Its parts that are not: protocol assignments with Teredo, documentation, 6to4 (which carries an IPv4 address), more documentation.
const FORBIDDEN_V6: &[Ipv6Net] = &[v6(0x2001, 0, 0, 23), v6(0x2001, 0xdb8, 0, 32), v6(0x2002, 0, 0, 16), v6(0x3fff, 0, 0, 20)];
/// Carries an IPv4 address in its last 32 bits, which is then judged.
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 96);

/// Whether the address is one of the public internet.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !FORBIDDEN_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => {
            if let Some(mapped) = address.to_ipv4_mapped() {
                return is_public(IpAddr::V4(mapped));
            }
            if NAT64.contains(&address) {
                let [.., a, b, c, d] = address.octets();
                return is_public(IpAddr::V4(Ipv4Addr::new(a, b, c, d)));
            }
            PUBLIC_V6.contains(&address) && !FORBIDDEN_V6.iter().any(|network| network.contains(&address))
        }
    }
}

/// Turns names into addresses: the system's way, or a test's.
pub trait Resolve: fmt::Debug + Send + Sync {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
}

/// As the machine is configured to.
#[derive(Debug)]
struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(lookup::look_up(host, port))
    }
}

/// Why a URL may not be reached. Callers are told of names that are not there what they are told of those that lead inside: they would
/// learn from the difference which names an inner network has. The log tells.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("is not an http or https URL without user, password and fragment, of at most 2048 characters")]
    Malformed,
    #[error("leads to no public address")]
    NotPublic,
    #[error("leads to no public address")]
    Unresolvable,
    #[error("names a host that cannot be looked up now, since too many are")]
    Busy,
}

impl Refused {
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "url",
            Self::NotPublic | Self::Unresolvable => "address_not_allowed",
            Self::Busy => "resolver_busy",
        }
    }
}

/// A URL that requests may go to, as far as its text tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    url: Url,
}

impl Target {
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// `https://example.org:8443`: what a breaker is for where there is no endpoint.
    pub fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    pub(super) fn host(&self) -> &str {
        self.url.host_str().expect("it was parsed with a host")
    }

    pub(super) fn port(&self) -> u16 {
        self.url.port_or_known_default().expect("http and https have one")
    }

    pub(super) fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }
}

/// What the base of other URLs must be like: `Err` says so.
pub fn check_base(url: &str) -> Result<(), &'static str> {
    match Guard::anywhere().parse(url) {
        Ok(target) if target.url.query().is_none() => Ok(()),
        Ok(_) | Err(_) => Err("an http or https URL such as https://api.example.org/v1, without user, password, query and fragment"),
    }
}

/// Judges where requests go.
#[derive(Debug, Clone)]
pub struct Guard {
    allow: Arc<[IpNet]>,
    resolver: Arc<dyn Resolve>,
}

impl Guard {
    /// `allow` are networks that may be reached although they are not public.
    pub fn new(allow: &[IpNet]) -> Self {
        Self::with_resolver(allow, Arc::new(SystemResolver))
    }

    /// Lets requests go wherever the name leads: for what the operator has chosen, and no caller can.
    pub fn anywhere() -> Self {
        Self::new(&[Ipv4Net::default().into(), Ipv6Net::default().into()])
    }

    pub fn with_resolver(allow: &[IpNet], resolver: Arc<dyn Resolve>) -> Self {
        Self { allow: allow.into(), resolver }
    }

    fn allows(&self, address: IpAddr) -> bool {
        // What is mapped is reached as what it maps to.
        let address = address.to_canonical();
        is_public(address) || self.allow.iter().any(|network| network.contains(&address))
    }

    /// The URL, if nothing in its text speaks against it; a name may still lead to anywhere.
    pub fn parse(&self, text: &str) -> Result<Target, Refused> {
        let is_clean = text.len() <= URL_MAX && text.is_ascii() && !text.contains(|c: char| c.is_ascii_control() || c == ' ');
        let url = Url::parse(text).ok().filter(|_| is_clean).ok_or(Refused::Malformed)?;
        let has_user = !url.username().is_empty() || url.password().is_some();
        if !matches!(url.scheme(), "http" | "https") || has_user || url.fragment().is_some() || url.port() == Some(0) {
            return Err(Refused::Malformed);
        }
        // As it is kept it may have become longer: what is written as `"` is `%22` then.
        if url.as_str().len() > URL_MAX {
            return Err(Refused::Malformed);
        }
        // Every way to write a number (`0x7f.1`, `2130706433`) has become an address here.
        let literal = match url.host().ok_or(Refused::Malformed)? {
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
            Host::Domain(_) => None,
        };
        match literal.is_none_or(|address| self.allows(address)) {
            true => Ok(Target { url }),
            false => Err(Refused::NotPublic),
        }
    }

    /// The addresses that the target's host has at this moment, if all of them may be reached.
    pub async fn resolve(&self, target: &Target) -> Result<Vec<SocketAddr>, Refused> {
        let port = target.port();
        let addresses = match target.url.host() {
            Some(Host::Ipv4(address)) => vec![SocketAddr::new(address.into(), port)],
            Some(Host::Ipv6(address)) => vec![SocketAddr::new(address.into(), port)],
            Some(Host::Domain(host)) => self.resolver.resolve(host, port).await.map_err(|error| {
                if error.kind() == io::ErrorKind::ResourceBusy {
                    return Refused::Busy;
                }
                tracing::info!(host, %error, "a host cannot be found, and its URL is refused");
                Refused::Unresolvable
            })?,
            None => return Err(Refused::Malformed),
        };
        if addresses.is_empty() {
            return Err(Refused::Unresolvable);
        }
        // One bad address is enough: which of them is tried is chance.
        let bad = addresses.iter().find(|address| !self.allows(address.ip()));
        if bad.is_none() && addresses.len() <= ADDRESSES_MAX {
            return Ok(addresses);
        }
        let (host, n_addresses, bad) = (target.host(), addresses.len(), bad.map(|address| field::display(address.ip())));
        tracing::info!(host, n_addresses, not_public = bad, "a host leads where nothing may go, and its URL is refused");
        Err(Refused::NotPublic)
    }
}

#[cfg(test)]
mod tests;
