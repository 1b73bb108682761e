//! What fuzzing gives to those parsers of this crate that nobody else sees.

use crate::heartbeat;

/// A heartbeat from the bus.
///
/// # Panics
/// When what was read isn't read again as it was written.
pub fn heartbeat(payload: &[u8]) {
    if let Some((member, leaving)) = heartbeat::decode(payload) {
        let again = heartbeat::encode(&member, leaving).expect("into memory");
        assert_eq!(heartbeat::decode(&again), Some((member, leaving)));
    }
}
