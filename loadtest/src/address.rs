//! Where load may go: `http://host:port/path`, and only to this machine unless its owner says so.

use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use crate::error::Error;

/// An `http://` address, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl {
    host: String,
    port: u16,
    /// Path and query; at least `/`.
    path: String,
}

impl FromStr for HttpUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("http://") else {
            return Err(match text.starts_with("https://") {
                true => "TLS is not spoken: measure behind the proxy that ends it".into(),
                false => "must begin with http://".into(),
            });
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        if authority.contains('@') {
            return Err("must hold no user name: see --email and --token".into());
        }
        let (host, port) = split_port(authority)?;
        Ok(Self { host: host.to_owned(), port, path: path.to_owned() })
    }
}

fn split_port(authority: &str) -> Result<(&str, u16), String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("an IPv6 address ends with ]")?;
            (host, after.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err("has no host".into());
    }
    let port = port.map_or(Ok(80), str::parse);
    let port = port.map_err(|_| "its port is not a number up to 65535")?;
    Ok((host, port))
}

impl HttpUrl {
    /// What the Host header says.
    pub(crate) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// False when there is a path beyond the root.
    pub(crate) fn is_root(&self) -> bool {
        self.path == "/"
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Looks the host up; refuses one that is not this machine unless `ownership` is claimed.
    pub(crate) fn resolve(&self, ownership: Ownership) -> Result<SocketAddr, Error> {
        let mut found = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|error| Error::failed(format!("cannot look up {}: {error}", self.host)))?;
        // IPv4 first: the platform listens on 127.0.0.1, and `localhost` names both.
        let addresses: Vec<SocketAddr> = found.by_ref().collect();
        let peer = addresses
            .iter()
            .find(|address| address.is_ipv4())
            .or(addresses.first())
            .ok_or_else(|| Error::failed(format!("{} has no address", self.host)))?;
        match ownership {
            Ownership::Unclaimed if !peer.ip().is_loopback() => Err(Error::usage(format!(
                "{peer} is not this machine: load on a host that is not yours is an attack; \
                 if it is yours, say so with --i-own-this-host"
            ))),
            Ownership::Unclaimed | Ownership::Claimed => Ok(*peer),
        }
    }
}

/// Whether the user has said that the host is theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ownership {
    Unclaimed,
    Claimed,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(String, String), String> {
        let url: HttpUrl = text.parse()?;
        Ok((url.authority(), url.path().to_owned()))
    }

    #[test]
    fn urls_are_taken_apart() {
        let cases = [
            ("http://127.0.0.1:8000", "127.0.0.1:8000", "/"),
            ("http://localhost/a?b=c", "localhost:80", "/a?b=c"),
            ("http://[::1]:9000/x", "[::1]:9000", "/x"),
        ];
        for (text, authority, path) in cases {
            assert_eq!(parsed(text), Ok((authority.into(), path.into())), "{text}");
        }
    }

    #[test]
    fn other_schemes_and_broken_urls_are_refused() {
        let cases = ["https://x", "ftp://x", "x:80", "http://", "http://:80", "http://x:99999", "http://a@b", "http://[::1"];
        for text in cases {
            assert!(parsed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn another_host_needs_the_owners_word() {
        let url: HttpUrl = "http://192.0.2.1:80".parse().expect("a legal url");
        let refused = url.resolve(Ownership::Unclaimed);
        assert!(matches!(refused, Err(Error::Usage(_))));
        assert!(url.resolve(Ownership::Claimed).is_ok());
        let local: HttpUrl = "http://localhost:80".parse().expect("a legal url");
        assert!(local.resolve(Ownership::Unclaimed).is_ok());
    }
}
