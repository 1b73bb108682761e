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
    pub(crate) fn of(peer: SocketAddr, headers: &HeaderMap, trusted_proxies: &[IpAddr]) -> Self {
        // A listener of both families sees an IPv4 address in IPv6's clothes.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        if !trusted_proxies.iter().any(|proxy| proxy.to_canonical() == peer.ip()) {
            return Self(peer);
        }
        let last = headers.get_all("x-forwarded-for").iter().next_back().and_then(|value| value.to_str().ok());
        let named = last.and_then(|list| list.rsplit(',').next()).and_then(|name| address(name.trim()));
        Self(named.map_or(peer, |address| SocketAddr::new(address.to_canonical(), 0)))
    }
}

/// An address as proxies write it: some add the port, and set what is of IPv6 in brackets.
fn address(name: &str) -> Option<IpAddr> {
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.parse().ok().or_else(|| name.parse::<SocketAddr>().ok().map(|address| address.ip()))
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

    #[test]
    fn a_proxy_is_known_by_either_form_of_its_address_and_names_clients_in_any() {
        let named = |peer: &str, proxy: &str, name: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", name.parse().unwrap());
            ClientAddress::of(peer.parse().unwrap(), &headers, &[proxy.parse().unwrap()]).0.ip().to_string()
        };
        // Whoever took the proxy for the client would count all clients as one.
        for (peer, proxy) in [("[::ffff:10.0.0.1]:5", "10.0.0.1"), ("10.0.0.1:5", "::ffff:10.0.0.1")] {
            assert_eq!(named(peer, proxy, "6.6.6.6, 1.2.3.4"), "1.2.3.4");
        }
        assert_eq!(named("[::ffff:10.0.0.1]:5", "10.0.0.2", "1.2.3.4"), "10.0.0.1");
        for name in ["1.2.3.4", "1.2.3.4:80", "::ffff:1.2.3.4", "[::ffff:1.2.3.4]", "[::ffff:1.2.3.4]:80"] {
            assert_eq!(named("10.0.0.1:5", "10.0.0.1", name), "1.2.3.4");
        }
        for name in ["[2001:db8::1]:80", "[2001:db8::1]", "2001:db8::1"] {
            assert_eq!(named("10.0.0.1:5", "10.0.0.1", name), "2001:db8::1");
        }
        for name in ["unknown", "", "1.2.3.4:x", "6.6.6.6,"] {
            assert_eq!(named("10.0.0.1:5", "10.0.0.1", name), "10.0.0.1", "{name}");
        }
    }
}
