//! The client's address. `Forwarded` and `X-Forwarded-For` count only as far as trusted proxies vouch for them.

use actix_web::{
    dev::ServiceRequest,
    http::header::{self, HeaderMap, HeaderName},
};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

pub(super) fn of_client(request: &ServiceRequest, trusted_proxies: &[IpNet]) -> IpAddr {
    let peer = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip().to_canonical());
    if trusted_proxies.is_empty() { peer } else { through_proxies(peer, request.headers(), trusted_proxies) }
}

/// Walks the chain from our side outwards and stops at the first address that is not a trusted proxy: what stands beyond
/// it was written by a stranger.
fn through_proxies(peer: IpAddr, headers: &HeaderMap, trusted_proxies: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted_proxies.iter().any(|network| network.contains(address));
    let mut client = peer;
    for claimed in chain(headers).iter().rev() {
        if !is_trusted(&client) {
            break;
        }
        let Some(address) = claimed else { break };
        client = *address;
    }
    client
}

/// The addresses that proxies added, first client first; `None` for what is not an address.
fn chain(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let values = |name: &HeaderName| {
        headers.get_all(name).filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim).collect::<Vec<_>>()
    };
    let forwarded = values(&header::FORWARDED);
    if forwarded.is_empty() {
        return values(&X_FORWARDED_FOR).into_iter().map(parse_address).collect();
    }
    forwarded
        .into_iter()
        .map(|element| {
            element
                .split(';')
                .find_map(|pair| pair.trim().split_once('=').filter(|(name, _)| name.eq_ignore_ascii_case("for")))
                .and_then(|(_, node)| parse_address(node.trim().trim_matches('"')))
        })
        .collect()
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
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        assert_eq!(through_proxies(peer.parse().unwrap(), &headers, &trusted), client.parse::<IpAddr>().unwrap());
    }
}
