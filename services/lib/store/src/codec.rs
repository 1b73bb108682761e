//! Small values behind a format byte and the id of the key that they are encrypted with (0: none).

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::StoreError;

const FORMAT: u8 = 1;
const KEY_NONE: u8 = 0;

/// The bytes of a value.
pub(crate) fn encode<T: Serialize>(table: &'static str, value: &T) -> Result<Bytes, StoreError> {
    let encoded = postcard::to_extend(value, vec![FORMAT, KEY_NONE]);
    encoded.map(Bytes::from).map_err(|error| StoreError::corrupt(table, error.to_string()))
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode<T: DeserializeOwned>(table: &'static str, bytes: &[u8]) -> Result<T, StoreError> {
    match bytes {
        [FORMAT, KEY_NONE, rest @ ..] => {
            postcard::from_bytes(rest).map_err(|error| StoreError::corrupt(table, error.to_string()))
        }
        _ => Err(StoreError::corrupt(table, "a value of an unknown format")),
    }
}
