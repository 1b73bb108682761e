//! What is new beside rooms: account data, to-device messages, device lists.

use std::collections::BTreeSet;

use bytes::Bytes;
use polity_accounts::INBOX_PAGE;
use polity_store::rooms::Membership;
use ruma_client_api::filter::FilterDefinition;
use ruma_common::{OwnedRoomId, OwnedUserId, RoomId};

use super::{
    Answer, Engine, SyncError, SyncRequest,
    collect::{Look, RoomAccountData},
    progress::{Knows, Progress},
    sharing::Mine,
};
use crate::filter;

impl Engine {
    /// Account data: the global one goes into the answer, that of rooms is given back.
    pub(crate) async fn record_news(
        &self,
        request: &SyncRequest,
        progress: &mut Progress,
        answer: &mut Answer,
    ) -> Result<RoomAccountData, SyncError> {
        let viewer = &request.viewer;
        let whole = progress.knows.lacks_the_record();
        let after = progress.at.record;
        let log = viewer.user_log;
        if !whole && self.heads.get(viewer.tenant, log) == Some(after) {
            return Ok(RoomAccountData::new());
        }
        let reading = self.heads.reading(log);
        let entries: Vec<(String, String, Option<Vec<u8>>)> = if whole {
            let (all, at) = self.accounts.account_data_now(viewer.tenant, &viewer.user_id).await?;
            progress.at.record = at;
            all.into_iter().map(|entry| (entry.scope, entry.key, entry.value)).collect()
        } else {
            let (changes, at) = self.accounts.account_data_after(viewer.tenant, &viewer.user_id, after).await?;
            progress.at.record = at;
            changes.into_iter().map(|change| (change.scope, change.key, change.value)).collect()
        };
        self.heads.read(reading, viewer.tenant, log, progress.at.record);
        let mut rooms = RoomAccountData::new();
        for (scope, key, value) in entries {
            let event = render(&key, value.as_deref().unwrap_or(b"{}"));
            if scope.is_empty() {
                let wanted = &request.filter.account_data;
                if filter::type_passes(wanted.types.as_deref(), &wanted.not_types, &key) {
                    answer.account_data.push(event);
                }
            } else if let Ok(room_id) = OwnedRoomId::try_from(scope)
                && is_wanted(&request.filter, &room_id, &key)
            {
                rooms.entry(room_id).or_default().push(event);
            }
        }
        let wanted = &request.filter.account_data;
        if whole
            && filter::type_passes(wanted.types.as_deref(), &wanted.not_types, "m.push_rules")
            && !answer.account_data.iter().any(|event| event.starts_with(b"{\"type\":\"m.push_rules\""))
        {
            let rules = self.accounts.push_rules(viewer.tenant, &viewer.user_id).await?;
            answer.account_data.push(render("m.push_rules", &rules));
        }
        Ok(rooms)
    }

    /// All that the user keeps of a room.
    pub(crate) async fn account_data_of(
        &self,
        request: &SyncRequest,
        room_id: &RoomId,
    ) -> Result<Vec<Bytes>, SyncError> {
        let viewer = &request.viewer;
        let all = self.accounts.account_data_of_room(viewer.tenant, &viewer.user_id, room_id).await?;
        let wanted = all.into_iter().filter(|entry| is_wanted(&request.filter, room_id, &entry.key));
        Ok(wanted.filter_map(|entry| Some(render(&entry.key, entry.value.as_deref()?))).collect())
    }

    /// To-device messages and device lists; the whole answer but for its end.
    pub(crate) async fn device_news(
        &self,
        mut look: Look<'_>,
        progress: &mut Progress,
        rows: Option<&[(OwnedRoomId, Membership)]>,
    ) -> Result<Answer, SyncError> {
        let viewer = &look.request.viewer;
        let inbox = progress.inbox;
        let read = progress.at.inbox.life == inbox.life
            && self.heads.get(viewer.tenant, inbox.log) == Some(progress.at.inbox.seq);
        if !read {
            let reading = self.heads.reading(inbox.log);
            let (events, at) = self.accounts.inbox_after(viewer.device(), progress.at.inbox).await?;
            if events.len() < INBOX_PAGE && at.life == inbox.life {
                self.heads.read(reading, viewer.tenant, inbox.log, at.seq);
            }
            progress.share.grow(events.iter().map(Bytes::len).sum())?;
            look.answer.to_device = events;
            progress.at.inbox = at;
        }
        self.device_list_news(&mut look, progress, rows).await?;
        Ok(look.answer)
    }

    /// Whose devices the client begins, goes on (anew) or ends to follow.
    async fn device_list_news(
        &self,
        look: &mut Look<'_>,
        progress: &mut Progress,
        rows: Option<&[(OwnedRoomId, Membership)]>,
    ) -> Result<(), SyncError> {
        let viewer = &look.request.viewer;
        if progress.knows.lacks_the_record() {
            progress.at.device_lists = self.accounts.device_lists_position(viewer.tenant).await?;
        }
        let after = progress.at.device_lists;
        let log = viewer.device_lists;
        let moved = self.heads.get(viewer.tenant, log) != Some(after);
        let mut sharing = std::mem::take(&mut look.sharing);
        if progress.knows == Knows::OtherStore {
            // As everybody in the user's rooms: of the devices that the client knows some may never have been in this store.
            sharing.came.insert(viewer.user_id.clone());
        }
        if progress.knows == Knows::Nothing || (!moved && sharing.came.is_empty() && sharing.went.is_empty()) {
            return Ok(());
        }
        let mut changed: BTreeSet<OwnedUserId> = sharing.came;
        let mine = Mine::new(self, look.request, rows).await?;
        if moved {
            let reading = self.heads.reading(log);
            let at = match self.accounts.device_lists_after(viewer.tenant, after).await? {
                Some((users, at)) => {
                    for user_id in users.into_keys() {
                        if user_id == viewer.user_id || mine.has_user(&user_id).await? {
                            changed.insert(user_id);
                        }
                    }
                    at
                }
                // Away for so long that the client had better look everybody up again. The position first: what changes
                // meanwhile is told next time.
                None => {
                    let at = self.accounts.device_lists_position(viewer.tenant).await?;
                    changed.extend(mine.everybody().await?);
                    at
                }
            };
            progress.at.device_lists = at;
            self.heads.read(reading, viewer.tenant, log, at);
        }
        for user_id in sharing.went.difference(&changed) {
            if *user_id != viewer.user_id && !mine.knows_user(user_id, &progress.rooms).await? {
                look.answer.devices_left.push(user_id.clone());
            }
        }
        look.answer.devices_changed = changed.into_iter().collect();
        Ok(())
    }
}

/// Whether a filter lets such account data of a room through.
fn is_wanted(filter: &FilterDefinition, room_id: &RoomId, event_type: &str) -> bool {
    let wanted = &filter.room.account_data;
    filter::concerns(filter, room_id)
        && filter::room_passes(wanted, room_id)
        && filter::type_passes(wanted.types.as_deref(), &wanted.not_types, event_type)
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
