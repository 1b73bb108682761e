//! What a row counts for a user, by the default push rules.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#predefined-rules>

use ruma_common::UserId;

use crate::{engine::Unread, engine::settings::Settings, read::StoredRow};

/// Whose counts they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counting<'a> {
    /// The user.
    pub user_id: &'a UserId,
    /// What the user has set.
    pub settings: &'a Settings,
}

/// What a row counts if nothing redacted it; `rings` is whether it highlights for everybody.
pub(super) fn unread_of(row: &StoredRow, rings: bool, counting: Counting<'_>) -> Option<Unread> {
    let event = row.event.as_ref()?;
    if event.sender == *counting.user_id || counting.settings.ignores(&event.sender) {
        return None;
    }
    let mentioned = mentioned(row).iter().any(|user| user == counting.user_id.as_str());
    (row.meta.notifies || mentioned).then_some(Unread { notifications: 1, highlights: u64::from(mentioned || rings) })
}

/// Whether a row counts at all if nothing redacted it.
pub(crate) fn counts(row: &StoredRow, counting: Counting<'_>) -> bool {
    unread_of(row, false, counting).is_some()
}

/// The users whom an event mentions, as `m.mentions` has them. (`.m.rule.is_user_mention`; a notice never notifies, a membership
/// neither, by rules that stand before it.)
pub(super) fn mentioned(row: &StoredRow) -> Vec<String> {
    let Some(event) = &row.event else { return Vec::new() };
    let content = event.content.get();
    // Hardly any content has mentions: looking for the word is cheaper than reading it all.
    if !content.contains("m.mentions") || event.event_type == "m.room.member" {
        return Vec::new();
    }
    let content: serde_json::Value = serde_json::from_str(content).unwrap_or_default();
    if event.event_type == "m.room.message" && content["msgtype"] == "m.notice" {
        return Vec::new();
    }
    let users = content["m.mentions"]["user_ids"].as_array().into_iter().flatten();
    users.filter_map(|user| user.as_str().map(str::to_owned)).collect()
}
