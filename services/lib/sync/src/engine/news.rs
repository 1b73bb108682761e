//! What is new beside rooms: account data, to-device messages, device lists, key counts.

use std::collections::BTreeSet;

use bytes::Bytes;
use polity_store::rooms::memberships;
use ruma_common::{OwnedRoomId, OwnedUserId, UserId};

use super::{
    Answer, Engine, SyncError, SyncRequest,
    collect::{Progress, RoomAccountData},
};
use crate::{filter, read::ReadError};

impl Engine {
    /// Account data: the global one goes into the answer, that of rooms is given back.
    pub(crate) async fn record_news(
        &self,
        request: &SyncRequest,
        progress: &mut Progress,
        answer: &mut Answer,
    ) -> Result<RoomAccountData, SyncError> {
        let viewer = &request.viewer;
        let entries: Vec<(String, String, Option<Vec<u8>>)> = if progress.initial {
            // The position first: what changes in between is told again, not missed.
            progress.at.record = self.accounts.record_position(viewer.tenant, &viewer.user_id).await?;
            let all = self.accounts.all_account_data(viewer.tenant, &viewer.user_id).await?;
            all.into_iter().map(|entry| (entry.scope, entry.key, entry.value)).collect()
        } else {
            let after = progress.at.record;
            let log = crate::user_log(viewer.tenant, &viewer.user_id);
            if self.heads.get(viewer.tenant, log) == Some(after) {
                return Ok(RoomAccountData::new());
            }
            let (changes, at) = self.accounts.account_data_after(viewer.tenant, &viewer.user_id, after).await?;
            progress.at.record = at;
            self.heads.moved(viewer.tenant, log, at);
            changes.into_iter().map(|change| (change.scope, change.key, change.value)).collect()
        };
        let mut rooms = RoomAccountData::new();
        for (scope, key, value) in entries {
            let event = render(&key, value.as_deref().unwrap_or(b"{}"));
            if scope.is_empty() {
                let wanted = &request.filter.account_data;
                if filter::type_passes(wanted.types.as_deref(), &wanted.not_types, &key) {
                    answer.account_data.push(event);
                }
            } else if let Ok(room_id) = OwnedRoomId::try_from(scope) {
                let wanted = &request.filter.room.account_data;
                if filter::type_passes(wanted.types.as_deref(), &wanted.not_types, &key) {
                    rooms.entry(room_id).or_default().push(event);
                }
            }
        }
        if progress.initial && !answer.account_data.iter().any(|event| event.starts_with(b"{\"type\":\"m.push_rules\""))
        {
            let rules = self.accounts.push_rules(viewer.tenant, &viewer.user_id).await?;
            answer.account_data.push(render("m.push_rules", &rules));
        }
        Ok(rooms)
    }

    /// To-device messages, device lists and key counts.
    pub(crate) async fn device_news(
        &self,
        request: &SyncRequest,
        progress: &mut Progress,
        answer: &mut Answer,
    ) -> Result<(), SyncError> {
        let viewer = &request.viewer;
        let (events, at) = self.accounts.inbox_after(viewer.device(), progress.at.inbox).await?;
        answer.to_device = events;
        progress.at.inbox = at;
        if progress.initial {
            progress.at.device_lists = self.accounts.device_lists_position(viewer.tenant).await?;
        } else {
            let after = progress.at.device_lists;
            let (users, at) = self.accounts.device_lists_after(viewer.tenant, after).await?;
            let mut changed: BTreeSet<OwnedUserId> = BTreeSet::new();
            for user_id in users {
                if user_id == viewer.user_id || self.share_a_room(request, &user_id).await? {
                    changed.insert(user_id);
                }
            }
            self.sharing_changes(request, answer, changed).await?;
            progress.at.device_lists = at;
        }
        self.key_counts(request, answer).await
    }

    /// How many one-time keys the device has left.
    pub(crate) async fn key_counts(&self, request: &SyncRequest, answer: &mut Answer) -> Result<(), SyncError> {
        let (counts, unused) = self.accounts.key_counts(request.viewer.device()).await?;
        answer.one_time_keys = counts.into_iter().collect();
        if !answer.one_time_keys.iter().any(|(algorithm, _)| algorithm == "signed_curve25519") {
            // Clients upload keys when they are told that there are none.
            answer.one_time_keys.push(("signed_curve25519".to_owned(), 0));
        }
        answer.unused_fallback_keys = unused;
        Ok(())
    }

    async fn share_a_room(&self, request: &SyncRequest, other: &UserId) -> Result<bool, SyncError> {
        let joined = |user_id| async move {
            let rows = memberships(&*self.store, request.viewer.tenant, user_id).await.map_err(ReadError::from)?;
            let rooms = rows.into_iter().filter(|(_, row)| row.membership == "join").map(|(room_id, _)| room_id);
            Ok::<BTreeSet<OwnedRoomId>, SyncError>(rooms.collect())
        };
        let (mine, theirs) = (joined(&*request.viewer.user_id).await?, joined(other).await?);
        Ok(!mine.is_disjoint(&theirs))
    }

    /// Tells the users whose devices `changed`, and who came to share an encrypted room with the user (or no longer does), by the
    /// member events of this answer.
    pub(crate) async fn sharing_changes(
        &self,
        request: &SyncRequest,
        answer: &mut Answer,
        mut changed: BTreeSet<OwnedUserId>,
    ) -> Result<(), SyncError> {
        let mut left = BTreeSet::new();
        for (room_id, room) in &answer.joined {
            let Some(key) = self.rooms.key(request.viewer.tenant, room_id).await? else { continue };
            let Some(head) = self.rooms.head(key).await? else { continue };
            if head.room.summary.encryption.is_none() {
                continue;
            }
            let state = match &room.state {
                super::StateSection::Before(events) | super::StateSection::After(events) => events,
            };
            for (user_id, membership) in state.iter().chain(&room.timeline.events).filter_map(member_of) {
                if user_id == request.viewer.user_id {
                    continue;
                }
                match membership.as_str() {
                    "join" => drop(changed.insert(user_id)),
                    "leave" | "ban" if !self.share_a_room(request, &user_id).await? => drop(left.insert(user_id)),
                    _ => {}
                }
            }
        }
        answer.devices_left = left.into_iter().filter(|user| !changed.contains(user)).collect();
        answer.devices_changed = changed.into_iter().collect();
        Ok(())
    }
}

/// Whose membership a rendered event is of, and what it is.
fn member_of(event: &Bytes) -> Option<(OwnedUserId, String)> {
    // Rendered events begin with their type.
    if !event.starts_with(b"{\"type\":\"m.room.member\"") {
        return None;
    }
    let event: serde_json::Value = serde_json::from_slice(event).ok()?;
    let user_id = OwnedUserId::try_from(event["state_key"].as_str()?).ok()?;
    Some((user_id, event["content"]["membership"].as_str()?.to_owned()))
}

fn render(event_type: &str, content: &[u8]) -> Bytes {
    let mut out = b"{\"type\":".to_vec();
    // Writing into memory can't fail.
    let _ = serde_json::to_writer(&mut out, event_type);
    out.extend_from_slice(b",\"content\":");
    out.extend_from_slice(content);
    out.push(b'}');
    out.into()
}
