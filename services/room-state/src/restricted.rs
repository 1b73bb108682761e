//! Joins of restricted rooms: what the room can't know by itself is read beside it, from heads that are read after the request arrived,
//! and the room decides again with the findings. So a slow read delays nobody else's commands.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#restricted-rooms>

use polity_core::{ErrorKind, LogKey, TenantId};
use polity_log::{LogError, read};
use polity_proto::Reason;
use polity_room_engine::{
    record::{RoomHead, RoomRow},
    state::{self, EventRef, Nodes},
};
use polity_store::rooms;
use ruma_common::{EventId, OwnedUserId, RoomId, UserId};

use crate::{
    command::{Answer, Conditions, Findings, Join, Requester},
    error::RoomError,
    nodes::Pinned,
    rooms::{Placed, Service},
};

/// How often a room may ask: its rule may change meanwhile, but hardly each time.
const ROUNDS: usize = 5;
/// Members looked at for one of this server who is in the room.
const MEMBERS: usize = 256;

impl Service {
    /// Joins somebody, under the profile that the user has when that is answered.
    pub(crate) async fn join(
        &self,
        room_id: &str,
        requester: Requester,
        reason: Option<String>,
    ) -> Result<Placed, RoomError> {
        let tenant = requester.tenant;
        let key = self.key(tenant, room_id).await?;
        let profile = self.profile(tenant, &requester.user_id).await?;
        let mut join = Join { requester, profile, reason, findings: None };
        for _ in 0..ROUNDS {
            match self.submit(key, join.clone().into()).await? {
                Answer::Done(done) => {
                    // What stood there before was made with a profile that isn't known here.
                    let shown = done.anew.then_some(&join.profile);
                    self.look_again(key, &join.requester, shown).await?;
                    return Ok(Placed { key, done });
                }
                Answer::Ask(conditions) => {
                    let user = join.requester.user_id.clone();
                    join.findings = Some(self.findings(tenant, room_id, &user, conditions).await?);
                }
            }
        }
        Err(RoomError::new(ErrorKind::Unavailable, Reason::Unspecified, "the room's rules are changing"))
    }

    async fn findings(
        &self,
        tenant: TenantId,
        room_id: &str,
        user_id: &UserId,
        mut asked: Conditions,
    ) -> Result<Findings, RoomError> {
        let (mut member_of, mut unknown) = (Vec::new(), Vec::new());
        for room in &asked.rooms {
            match self.head(tenant, room).await? {
                Some((key, head)) => {
                    if self.membership_at(key, &head, user_id).await?.as_deref() == Some("join") {
                        member_of.push(room.clone());
                        break;
                    }
                }
                None => unknown.push(room.clone()),
            }
        }
        if asked.any_member
            && let Ok(room_id) = <&RoomId>::try_from(room_id)
            && let Some((key, head)) = self.head(tenant, room_id).await?
        {
            asked.vouchers = self.some_member(key, &head).await?.into_iter().collect();
        }
        Ok(Findings { asked, member_of, unknown })
    }

    /// What a user is in a room at a head.
    async fn membership_at(&self, key: LogKey, head: &RoomHead, user_id: &UserId) -> Result<Option<String>, RoomError> {
        let question = |nodes: &dyn Nodes| state::get(nodes, &head.roots.members, "", user_id.as_str());
        let (nodes, mut pinned) = (&self.deps.nodes, Pinned::default());
        match nodes.ask(&*self.deps.store, key, head.generation, &mut pinned, question).await? {
            Some(event_id) => Ok(Some(self.membership_in(key, &event_id).await?)),
            None => Ok(None),
        }
    }

    /// What a member event says, by its row.
    async fn membership_in(&self, key: LogKey, event_id: &EventId) -> Result<String, RoomError> {
        let missing = || LogError::Corrupt(format!("the state's event {event_id} is not to be found"));
        let store = &*self.deps.store;
        let place = rooms::place_of_event(store, key.tenant, event_id).await?.ok_or_else(missing)?;
        let row = read::back(store, place.key, place.seq, 1).await?.pop().ok_or_else(missing)?;
        let row = RoomRow::decode(&row.body).map_err(|error| LogError::Corrupt(error.to_string()))?;
        Ok(row.meta.membership.ok_or_else(missing)?.membership)
    }

    /// Somebody of this server who is in the room, if one of the first members is.
    async fn some_member(&self, key: LogKey, head: &RoomHead) -> Result<Option<OwnedUserId>, RoomError> {
        let tenant = self.tenant(key.tenant)?;
        let question = |nodes: &dyn Nodes| state::first_entries(nodes, &head.roots.members, MEMBERS);
        let (nodes, mut pinned) = (&self.deps.nodes, Pinned::default());
        for entry in nodes.ask(&*self.deps.store, key, head.generation, &mut pinned, question).await? {
            let Ok(user_id) = OwnedUserId::try_from(&*entry.state_key) else { continue };
            let event_id = EventRef::to_id(&entry.event).map_err(|error| LogError::Corrupt(error.to_string()))?;
            if user_id.server_name() == tenant.identity().server_name()
                && self.membership_in(key, &event_id).await? == "join"
            {
                return Ok(Some(user_id));
            }
        }
        Ok(None)
    }
}
