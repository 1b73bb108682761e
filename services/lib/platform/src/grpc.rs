//! What travels with every call between tiers: how long there is, and which trace it belongs to.
//!
//! The trace is [`crate::telemetry::inject`] and [`crate::telemetry::adopt_parent`] over the same headers.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that says how long a call may take.
///
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// A value has no more digits.
const LARGEST: u128 = 99_999_999;

/// Says in the headers how long a call may take: in microseconds while they fit, then coarser (rounded down, so that the
/// called gives up no later than the caller).
pub fn set_timeout(headers: &mut HeaderMap, timeout: Duration) {
    let units = [(timeout.as_micros(), 'u'), (timeout.as_millis(), 'm'), (u128::from(timeout.as_secs()), 'S')];
    let (value, unit) = units.into_iter().find(|(value, _)| *value <= LARGEST).unwrap_or((LARGEST, 'S'));
    if let Ok(value) = HeaderValue::try_from(format!("{value}{unit}")) {
        headers.insert(TIMEOUT, value);
    }
}

/// How long the headers say that a call may take. None: they don't say, or not understandably.
#[must_use]
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(sent: Duration) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        set_timeout(&mut headers, sent);
        timeout(&headers)
    }

    fn read(text: &'static str) -> Option<Duration> {
        timeout(&HeaderMap::from_iter([(TIMEOUT, HeaderValue::from_static(text))]))
    }

    #[test]
    fn a_timeout_arrives_and_never_grows() {
        for (sent, arrived) in [
            (Duration::ZERO, Duration::ZERO),
            (Duration::from_nanos(1_500), Duration::from_micros(1)),
            (Duration::from_secs(30), Duration::from_secs(30)),
            (Duration::from_micros(180_000_001), Duration::from_secs(180)),
            (Duration::from_secs(1_000_000), Duration::from_secs(1_000_000)),
            (Duration::MAX, Duration::from_secs(99_999_999)),
        ] {
            assert_eq!(there_and_back(sent), Some(arrived));
        }
    }

    #[test]
    fn every_unit_is_understood_and_nonsense_is_not() {
        assert_eq!(read("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(read("3M"), Some(Duration::from_secs(180)));
        assert_eq!(read("5n"), Some(Duration::from_nanos(5)));
        for nonsense in ["", "S", "1", "-1S", "123456789S", "1x", "+1S"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
    }
}
