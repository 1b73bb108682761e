//! What fuzzing gives to those parsers of this crate that nobody else sees.

use http::HeaderMap;
use polity_core::IncarnationId;
use polity_store::{Row, Value};

use crate::{beats, forward, heartbeat};

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

/// The headers of another process's answer: whom to ask instead.
///
/// # Panics
/// When a name that was read isn't read again as it is written.
pub fn answer(headers: &HeaderMap) {
    if let Some(process) = forward::asks(headers) {
        let mut again = HeaderMap::new();
        again.insert(polity_proto::route::ASK, process.to_string().parse().expect("digits"));
        assert_eq!(forward::asks(&again), Some(process));
    }
}

/// A sign of life in the store: the process, and its counter.
pub fn beat(bytes: &[u8]) {
    let (process, counter) = bytes.split_at(bytes.len().min(IncarnationId::new([0; 16]).as_bytes().len()));
    let key = [Value::Blob(process.to_vec().into())].into_iter().collect();
    let _ = beats::read(&Row::new(key, counter.to_vec().into()));
}
