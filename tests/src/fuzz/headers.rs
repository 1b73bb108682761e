//! The headers of a request.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Lines of `name: value`, as far as HTTP takes them.
pub(super) fn headers(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(32) {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or_default().trim_ascii();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    polity_platform::fuzzing::headers(&headers);
    polity_cluster::fuzzing::answer(&headers);
    let _ = polity_proto::timeout(&headers);
}
