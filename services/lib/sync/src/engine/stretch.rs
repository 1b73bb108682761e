//! How long a user stays in a room, by the effect of its rows on the state: an event that lost changes nothing, and a resolution
//! takes a user out without an event.

use std::sync::Arc;

use polity_core::{
    Seq,
    mutation::{Mutation, planted},
};
use ruma_common::{OwnedEventId, OwnedUserId};

use super::{
    SyncError,
    pass::RoomPass,
    window::{self, SCAN},
};
use crate::read::{StateView, StoredRow};

/// Rows that are read at once, all of them, to see whether one concerns the user.
const NEAR: u64 = 64;
/// Rows read at once when there are more.
const PAGE: usize = 500;
/// Bans of somebody who had left already, and the like, at the end of an archived room.
const OUT_ROWS: usize = 16;

/// What became of a member since a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stays {
    /// In the room at every row.
    Throughout,
    /// In the room at its end, and perhaps not always: there are more rows in between than any timeline has.
    AtTheEnd,
    /// The first row whose effect takes the user out (or, of very many rows, one that does).
    Until(Seq),
}

/// Whether a membership is one that a client is told of as long as it lasts.
pub(crate) fn is_in(membership: &str) -> bool {
    matches!(membership, "join" | "invite" | "knock")
}

impl RoomPass<'_> {
    /// What became of the user, a member at `seq`, up to the head.
    pub(crate) async fn stays(&self, seq: Seq) -> Result<Stays, SyncError> {
        if self.head.seq <= seq {
            return Ok(Stays::Throughout);
        }
        if planted(Mutation::StaysByMembership)
            && self.own_membership().await?.is_some_and(|(membership, _)| membership == "join")
        {
            return Ok(Stays::AtTheEnd);
        }
        let rows = self.head.seq.get() - seq.get();
        if rows > NEAR && self.own_id_at(seq).await? == self.own_id(&self.now()).await? {
            // No row need be read.
            return Ok(Stays::Throughout);
        }
        if rows <= SCAN as u64 {
            return Ok(self.first_out(seq, |is| is == "join").await?.map_or(Stays::Throughout, Stays::Until));
        }
        if self.own_membership().await?.is_some_and(|(membership, _)| membership == "join") {
            return Ok(Stays::AtTheEnd);
        }
        self.search_out(seq, |is| is == "join").await.map(Stays::Until)
    }

    /// The row that ended the user's invitation (or knock, or what came of it); `None` if none did up to the head.
    pub(crate) async fn ended(&self, seq: Seq) -> Result<Option<Seq>, SyncError> {
        if self.own_membership().await?.is_some_and(|(membership, _)| is_in(&membership)) || self.head.seq <= seq {
            return Ok(None);
        }
        if self.head.seq.get() - seq.get() <= SCAN as u64 {
            return self.first_out(seq, is_in).await;
        }
        self.search_out(seq, is_in).await.map(Some)
    }

    /// The first row after `seq` after which the user's membership is none that `stays` accepts.
    async fn first_out(&self, seq: Seq, stays: impl Fn(&str) -> bool) -> Result<Option<Seq>, SyncError> {
        let mut from = seq;
        while from < self.head.seq {
            let left = self.head.seq.get() - from.get();
            let to = from.plus(left.min(PAGE as u64));
            let count = usize::try_from(to.get() - from.get()).unwrap_or(PAGE);
            let rows = self.engine.rooms.back(self.key, to, count).await?;
            for row in rows.iter().rev() {
                if let Some(now) = self.own_change(row).await?
                    && !now.as_deref().is_some_and(&stays)
                {
                    return Ok(Some(row.seq));
                }
            }
            from = to;
        }
        Ok(None)
    }

    /// One of the rows after `seq` whose effect takes the user out, who is out at the head. Takes the logarithm of their number.
    async fn search_out(&self, seq: Seq, stays: impl Fn(&str) -> bool) -> Result<Seq, SyncError> {
        let (mut low, mut high) = (seq.get(), self.head.seq.get());
        while high - low > 1 {
            let middle = low.midpoint(high);
            let state = window::state_after(&self.engine.rooms, self.key, Seq::new(middle)).await?;
            let own = self.membership_in(&state).await?;
            if own.is_some_and(|(membership, _)| stays(&membership)) {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(Seq::new(high))
    }

    /// For a user who is out of the room by the row `out`: the row that ended the last stretch in it, if there was one.
    pub(crate) async fn last_in(&self, out: Seq) -> Result<Option<Seq>, SyncError> {
        let mut at = out;
        for _ in 0..OUT_ROWS {
            let Some(row) = self.engine.rooms.back(self.key, at, 1).await?.pop() else { return Ok(None) };
            let before = row.meta.deltas.iter().find(|delta| self.is_own(&delta.event_type, &delta.state_key));
            let Some(before) = before.and_then(|delta| delta.before.as_deref()) else { return Ok(None) };
            let Some(before) = self.engine.rooms.event(self.key.tenant, before).await? else { return Ok(None) };
            if membership_of(&before).is_some_and(|(membership, _)| membership == "join") {
                return Ok(Some(at));
            }
            at = before.seq;
        }
        Ok(None)
    }

    /// What a row makes of the user: `None` if it doesn't touch the user's membership, `Some(None)` if there is none after it.
    pub(crate) async fn own_change(&self, row: &Arc<StoredRow>) -> Result<Option<Option<String>>, SyncError> {
        let mut own = row.meta.deltas.iter().rev();
        let Some(own) = own.find(|delta| self.is_own(&delta.event_type, &delta.state_key)) else { return Ok(None) };
        let Some(after) = own.after.as_deref() else { return Ok(Some(None)) };
        let event = match &row.event {
            Some(event) if event.event_id == *after => Some(Arc::clone(row)),
            _ => self.engine.rooms.event(self.key.tenant, after).await?,
        };
        Ok(Some(event.and_then(|row| membership_of(&row)).map(|(membership, _)| membership)))
    }

    fn is_own(&self, event_type: &str, state_key: &str) -> bool {
        event_type == "m.room.member" && state_key == self.request.viewer.user_id.as_str()
    }

    /// The state at the head.
    pub(crate) fn now(&self) -> StateView {
        StateView::at_roots(self.head.room.roots)
    }

    /// What the user is at the head, and who made it so.
    pub(crate) async fn own_membership(&self) -> Result<Option<(String, OwnedUserId)>, SyncError> {
        self.membership_in(&self.now()).await
    }

    async fn membership_in(&self, state: &StateView) -> Result<Option<(String, OwnedUserId)>, SyncError> {
        let user_id = self.request.viewer.user_id.as_str();
        let row = self.engine.rooms.state_event(self.key, state, "m.room.member", user_id).await?;
        Ok(row.as_deref().and_then(membership_of))
    }

    async fn own_id_at(&self, seq: Seq) -> Result<Option<OwnedEventId>, SyncError> {
        self.own_id(&window::state_after(&self.engine.rooms, self.key, seq).await?).await
    }

    async fn own_id(&self, state: &StateView) -> Result<Option<OwnedEventId>, SyncError> {
        let (generation, user_id) = (self.head.room.generation, self.request.viewer.user_id.as_str());
        Ok(self.engine.rooms.state_id(self.key, generation, state, "m.room.member", user_id).await?)
    }
}

/// What a member event says, and who sent it.
pub(crate) fn membership_of(row: &StoredRow) -> Option<(String, OwnedUserId)> {
    let event = row.event.as_ref()?;
    Some((event.content_text("membership")?, event.sender.clone()))
}
