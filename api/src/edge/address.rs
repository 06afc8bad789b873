//! The client's address: what `X-Forwarded-For`, or `Forwarded` if the setting says so, tells as far as trusted proxies vouch for it.
//!
//! One header is read and never the other: a proxy that writes the one hands the other on as the client sent it.

use actix_web::{
    dev::ServiceRequest,
    http::header::{self, HeaderMap, HeaderName},
};
use ipnet::IpNet;
use shared::config::{ClientAddressHeader, Settings};
use std::net::{IpAddr, Ipv4Addr};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

pub(super) fn of_client(request: &ServiceRequest, settings: &Settings) -> IpAddr {
    let peer = peer(request);
    let trusted_proxies = settings.trusted_proxies.as_slice();
    if trusted_proxies.is_empty() {
        return peer;
    }
    through_proxies(peer, chain(request.headers(), settings.client_address_header), trusted_proxies)
}

/// Who is at the other end of the connection.
fn peer(request: &ServiceRequest) -> IpAddr {
    request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip().to_canonical())
}

/// Walks the chain from our side outwards and stops at the first address that is not a trusted proxy: what stands beyond
/// it was written by a stranger.
fn through_proxies(peer: IpAddr, chain: Vec<Option<IpAddr>>, trusted_proxies: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted_proxies.iter().any(|network| network.contains(address));
    let mut client = peer;
    for claimed in chain.into_iter().rev() {
        if !is_trusted(&client) {
            break;
        }
        let Some(address) = claimed else { break };
        client = address;
    }
    client
}

/// The addresses that proxies added, first client first; `None` for what is not an address.
fn chain(headers: &HeaderMap, header: ClientAddressHeader) -> Vec<Option<IpAddr>> {
    let (name, address): (_, fn(&str) -> Option<IpAddr>) = match header {
        ClientAddressHeader::XForwardedFor => (X_FORWARDED_FOR, parse_address),
        ClientAddressHeader::Forwarded => (header::FORWARDED, parse_element),
    };
    // What is not text is no address, and what stands beyond it is not believed.
    headers.get_all(name).flat_map(|value| value.to_str().unwrap_or("?").split(',')).map(|part| address(part.trim())).collect()
}

/// What an element of `Forwarded` has behind `for=`.
fn parse_element(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, node) = pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    parse_address(node.trim().trim_matches('"'))
}

/// An address, with or without a port; IPv6 may stand in brackets.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None if text.matches(':').count() == 1 => text.split(':').next()?,
        None => text,
    };
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;
    use rstest::rstest;

    #[rstest]
    #[case::no_proxy_is_trusted("9.9.9.9", "x-forwarded-for", "1.2.3.4", "9.9.9.9")]
    #[case::a_trusted_proxy_names_the_client("10.0.0.1", "x-forwarded-for", "1.2.3.4", "1.2.3.4")]
    #[case::a_forged_entry_stands_beyond_the_real_client("10.0.0.1", "x-forwarded-for", "6.6.6.6, 1.2.3.4", "1.2.3.4")]
    #[case::two_trusted_proxies("10.0.0.1", "x-forwarded-for", "1.2.3.4, 10.0.0.2", "1.2.3.4")]
    #[case::nonsense_stops_the_walk("10.0.0.1", "x-forwarded-for", "1.2.3.4, unknown", "10.0.0.1")]
    #[case::with_port("10.0.0.1", "x-forwarded-for", "1.2.3.4:5678", "1.2.3.4")]
    #[case::forwarded("10.0.0.1", "forwarded", "for=\"[2001:db8::1]:4711\";proto=https", "2001:db8::1")]
    #[case::forwarded_chain("10.0.0.1", "forwarded", "for=6.6.6.6, For=1.2.3.4;by=10.0.0.1", "1.2.3.4")]
    fn the_client_is_the_first_that_no_trusted_proxy_vouches_for(
        #[case] peer: &str,
        #[case] name: &'static str,
        #[case] value: &'static str,
        #[case] client: &str,
    ) {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        let read = if name == "forwarded" { ClientAddressHeader::Forwarded } else { ClientAddressHeader::XForwardedFor };
        assert_eq!(client_of(peer, &headers, read), client.parse::<IpAddr>().unwrap());
    }

    fn client_of(peer: &str, headers: &HeaderMap, read: ClientAddressHeader) -> IpAddr {
        through_proxies(peer.parse().unwrap(), chain(headers, read), &["10.0.0.0/8".parse().unwrap()])
    }

    #[test]
    fn the_header_that_no_proxy_writes_is_not_read_whatever_a_client_says_in_it() {
        let mut headers = HeaderMap::new();
        headers.insert(X_FORWARDED_FOR, HeaderValue::from_static("1.2.3.4"));
        headers.insert(header::FORWARDED, HeaderValue::from_static("for=6.6.6.6"));
        assert_eq!(client_of("10.0.0.1", &headers, ClientAddressHeader::XForwardedFor).to_string(), "1.2.3.4");
        assert_eq!(client_of("10.0.0.1", &headers, ClientAddressHeader::Forwarded).to_string(), "6.6.6.6");
    }
}
