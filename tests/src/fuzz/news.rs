//! What comes over the bus, each kind by its decoder, and the details of errors that calls are answered with.

use bytes::Bytes;
use polity_bus::Wake;
use polity_cluster::digest::Digest;
use polity_proto::{Detail, Status};
use polity_room_engine::live;
use polity_sync::{ephemeral::EphemeralEvent, read::StoredRow};

/// A payload of any kind.
pub(super) fn news(payload: &[u8]) {
    if let Ok(live) = live::decode(payload) {
        assert_eq!(live::decode(&live::encode(&live)), Ok(live.clone()));
        live.rows.into_iter().for_each(|row| drop(StoredRow::from_live(row)));
    }
    if let Ok(event) = EphemeralEvent::decode(payload) {
        assert_eq!(EphemeralEvent::decode(&event.encode()), Ok(event));
    }
    if let Ok(digest) = Digest::decode(payload) {
        assert_eq!(Digest::decode(&digest.encode()), Ok(digest));
    }
    if let Some((wake, rest)) = Wake::decode(payload) {
        assert_eq!([&wake.encode()[..], rest].concat(), payload);
    }
    polity_cluster::fuzzing::heartbeat(payload);
    let status = Status::with_details(tonic::Code::Unknown, "", Bytes::copy_from_slice(payload));
    let detail = Detail::from(&status);
    assert_eq!(Detail::from(&polity_proto::to_status(&detail)), detail);
}
