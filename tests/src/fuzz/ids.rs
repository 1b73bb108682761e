//! Identifiers: what is read is what was written, and finds its way into keys and state nodes and back.

use polity_core::{IncarnationId, LogId, TenantId};
use polity_room_engine::state::EventRef;
use ruma_common::{EventId, OwnedServerName, RoomAliasId, RoomId, RoomOrAliasId, RoomVersionId, ServerName, UserId};

use super::text;

/// A text as every kind of id, and bytes as ours.
pub(super) fn ids(bytes: &[u8]) {
    assert_eq!(LogId::from_slice(bytes).is_ok(), bytes.len() == 16);
    assert_eq!(IncarnationId::from_slice(bytes).is_ok(), bytes.len() == 16);
    let text = text(bytes);
    let text: &str = &text;
    if let Ok(user) = UserId::parse(text) {
        assert_eq!(format!("@{}:{}", user.localpart(), user.server_name()), text);
        server(user.server_name());
    }
    if let Ok(alias) = RoomAliasId::parse(text) {
        assert_eq!(format!("#{}:{}", alias.alias(), alias.server_name()), text);
    }
    if let Ok(room) = RoomId::parse(text) {
        assert_eq!(room.as_str(), text);
        room.server_name().map(server).unwrap_or_default();
        assert!(RoomOrAliasId::parse(text).is_ok());
    }
    if let Ok(event) = EventId::parse(text) {
        assert_eq!(EventRef::from(&*event).to_id().as_ref(), Ok(&event), "an id that a state node changes");
    }
    if let Ok(version) = RoomVersionId::try_from(text) {
        assert_eq!(version.as_str(), text);
        version.rules();
    }
    assert_eq!(LogId::derived(TenantId::new(1), "user", text), LogId::derived(TenantId::new(1), "user", text));
}

fn server(name: &ServerName) {
    let port = name.port().map_or_else(String::new, |port| format!(":{port}"));
    assert!(name.as_str().starts_with(name.host()), "{name}");
    // A port has more than one spelling.
    let again = format!("{}{port}", name.host());
    assert!(OwnedServerName::try_from(again).is_ok(), "{name}");
}
