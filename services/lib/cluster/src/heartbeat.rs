//! What a process tells the others of itself, four times within the time after which it counts as gone.

use bytes::Bytes;
use polity_bus::{Subject, SubjectKind};
use polity_core::IncarnationId;
use polity_log::{Member, MemberState};
use serde::{Deserialize, Serialize};

/// Where heartbeats go.
pub(crate) const SUBJECT: Subject = Subject::of_cluster(SubjectKind::Heartbeat);
const FORMAT: u8 = 1;

/// A heartbeat on the wire. New fields come at the end.
#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    incarnation: [u8; 16],
    kind: &'a str,
    node: &'a str,
    version: i64,
    address: &'a str,
    leaving: bool,
}

/// The heartbeat of a process, which is leaving or not.
pub(crate) fn encode(member: &Member, leaving: bool) -> Option<Bytes> {
    let Member { incarnation, kind, node, version, address, .. } = member;
    let wire = Wire { incarnation: *incarnation.as_bytes(), kind, node, version: *version, address, leaving };
    postcard::to_extend(&wire, vec![FORMAT]).ok().map(Bytes::from)
}

/// Whose heartbeat it is, and whether it is leaving. `None`: of a version that isn't understood.
pub(crate) fn decode(payload: &[u8]) -> Option<(Member, bool)> {
    let (&FORMAT, wire) = payload.split_first()? else { return None };
    let (Wire { incarnation, kind, node, version, address, leaving }, _) = postcard::take_from_bytes(wire).ok()?;
    let (kind, node, address) = (kind.into(), node.into(), address.into());
    let incarnation = IncarnationId::new(incarnation);
    Some((Member { incarnation, kind, node, version, address, state: MemberState::Open, told: None }, leaving))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_read_as_it_was_written_also_by_those_who_know_less() {
        let member = Member::new(IncarnationId::new([7; 16]), "room-state", "a", "127.0.0.1:1");
        let mut payload = encode(&member, true).unwrap().to_vec();
        payload.push(9);
        assert_eq!(decode(&payload), Some((member, true)));
        assert_eq!((decode(&[]), decode(&payload[1..]), decode(&payload[..9])), (None, None, None));
    }
}
