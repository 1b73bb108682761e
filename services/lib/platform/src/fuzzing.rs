//! What fuzzing gives to those parsers of this crate that nobody else sees.

use std::net::{IpAddr, SocketAddr};

use ::http::HeaderMap;

use crate::{http::ClientAddress, telemetry};

/// The headers of a request, which say where it comes from and in which trace it is.
///
/// # Panics
/// When whoever is no proxy is believed, or an address is given in two forms.
pub fn headers(headers: &HeaderMap) {
    let proxy = SocketAddr::from(([10, 0, 0, 1], 5));
    assert_eq!(ClientAddress::of(proxy, headers, &[]).0, proxy, "nobody is trusted");
    let named = ClientAddress::of(proxy, headers, &[proxy.ip()]).0;
    assert_eq!(named.ip(), IpAddr::to_canonical(&named.ip()), "two names for one client");
    assert!(named == proxy || named.port() == 0, "a proxy names no port");
    telemetry::read(headers);
}
