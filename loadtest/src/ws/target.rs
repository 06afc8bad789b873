//! Where sockets go: `ws://host:port/path`. `http://` is taken too, for who copies it from another command.

use std::str::FromStr;

use super::orders::Target;
use crate::address::{HttpUrl, Ownership};
use crate::error::Error;

/// A `ws://` address, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WsUrl(HttpUrl);

impl FromStr for WsUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("wss://") {
            return Err("TLS is not spoken: measure behind the proxy that ends it".into());
        }
        let rest = text.strip_prefix("ws://").or(text.strip_prefix("http://"));
        let rest = rest.ok_or("must begin with ws:// or http://")?;
        format!("http://{rest}").parse().map(Self)
    }
}

impl WsUrl {
    /// The server behind it; an address without a path gets `default_path`.
    pub(super) fn target(&self, default_path: &str, ownership: Ownership) -> Result<Target, Error> {
        let path = if self.0.is_root() { default_path } else { self.0.path() };
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::usage(format!("the path {path:?} holds blanks or control characters")));
        }
        Ok(Target { peer: self.0.resolve(ownership)?, authority: self.0.authority(), path: path.to_owned() })
    }

    /// The server's HTTP side.
    pub(super) fn http(&self) -> &HttpUrl {
        &self.0
    }

    pub(super) fn shown(&self, default_path: &str) -> String {
        let path = if self.0.is_root() { default_path } else { self.0.path() };
        format!("ws://{}{path}", self.0.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_schemes_name_the_same_and_a_path_may_be_left_out() {
        for text in ["ws://127.0.0.1:8000", "http://127.0.0.1:8000/"] {
            let url: WsUrl = text.parse().expect("legal");
            assert_eq!(url.shown("/ws"), "ws://127.0.0.1:8000/ws");
            let target = url.target("/ws", Ownership::Unclaimed).expect("loopback");
            assert_eq!((target.authority.as_str(), target.path.as_str()), ("127.0.0.1:8000", "/ws"));
        }
        let url: WsUrl = "ws://localhost:1/other".parse().expect("legal");
        assert_eq!(url.shown("/ws"), "ws://localhost:1/other");
    }

    #[test]
    fn tls_other_schemes_and_other_hosts_are_refused() {
        for text in ["wss://x", "ftp://x", "127.0.0.1:8000", "ws://"] {
            assert!(text.parse::<WsUrl>().is_err(), "{text}");
        }
        let url: WsUrl = "ws://192.0.2.1".parse().expect("legal");
        assert!(url.target("/", Ownership::Unclaimed).is_err());
    }
}
