//! Where a request came from.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

/// Where a request came from, in its extensions: the peer, or whom a trusted proxy names (then without a port).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub SocketAddr);

impl Default for ClientAddress {
    fn default() -> Self {
        Self(SocketAddr::from(([0, 0, 0, 0], 0)))
    }
}

impl ClientAddress {
    /// The address of a request from `peer`. Only the last name in X-Forwarded-For was written by the proxy itself: what
    /// stands before it is the client's word.
    pub(super) fn of(peer: SocketAddr, headers: &HeaderMap, trusted_proxies: &[IpAddr]) -> Self {
        if trusted_proxies.is_empty() || !trusted_proxies.contains(&peer.ip()) {
            return Self(peer);
        }
        let last = headers.get_all("x-forwarded-for").iter().next_back().and_then(|value| value.to_str().ok());
        let address = last.and_then(|list| list.rsplit(',').next()).and_then(|name| name.trim().parse::<IpAddr>().ok());
        Self(address.map_or(peer, |address| SocketAddr::new(address, 0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let peer: SocketAddr = "10.0.0.1:5".parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "6.6.6.6, 1.2.3.4".parse().unwrap());
        let of = |proxies: &[IpAddr]| ClientAddress::of(peer, &headers, proxies).0.to_string();
        assert_eq!(of(&[]), "10.0.0.1:5");
        assert_eq!(of(&["10.0.0.2".parse().unwrap()]), "10.0.0.1:5");
        assert_eq!(of(&["10.0.0.1".parse().unwrap()]), "1.2.3.4:0");
        assert_eq!(ClientAddress::of(peer, &HeaderMap::new(), &[peer.ip()]).0, peer);
    }
}
