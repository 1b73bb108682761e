//! Unread counts: what the user hasn't read of a room.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#receiving-notifications>

use polity_core::Seq;
use polity_store::users::own_receipts;

use super::{SyncError, counted::Counted, pass::RoomPass};
use crate::{
    engine::Unread,
    read::{ReadError, StoredRow},
};

/// Rows that are looked at one by one, newest first. Those before count by the running counts of the log.
const EVALUATED: usize = 500;
/// Rows that are read at once.
const PAGE: usize = 100;

impl RoomPass<'_> {
    /// The counts after the user's newest receipt (or own message, or join), up to the head.
    pub(crate) async fn unread(&self) -> Result<Unread, SyncError> {
        let viewer = &self.request.viewer;
        let base = own_receipts(&*self.engine.store, viewer.tenant, &viewer.user_id, &self.room_id)
            .await
            .map_err(ReadError::from)?
            .into_iter()
            .filter(|receipt| receipt.position.life == self.key.life)
            .map(|receipt| receipt.position.seq)
            .max()
            .unwrap_or(Seq::ZERO);
        let name = (self.key, viewer.user_id.clone());
        let (head, redactions) = (self.head.seq, self.head.room.redactions);
        let unread = match self.engine.unread.get(&name, base, redactions, head) {
            Some(counted) => {
                let (newer, all) = self.count_back(counted.up_to).await?;
                if all { counted.unread + newer } else { newer }
            }
            None => self.count_back(base).await?.0,
        };
        self.engine.unread.set(name, Counted { base, up_to: head, redactions, unread });
        Ok(unread)
    }

    /// The count of the rows after `base`, and whether it goes back that far: not beyond what the user did.
    async fn count_back(&self, base: Seq) -> Result<(Unread, bool), SyncError> {
        let (mut unread, mut next, mut looked) = (Unread::default(), self.head.seq, 0);
        while next > base && looked < EVALUATED {
            let wanted = usize::try_from(next.get() - base.get()).unwrap_or(PAGE).min(PAGE);
            let rows = self.engine.rooms.back(self.key, next, wanted).await?;
            let Some(oldest) = rows.last().map(|row| row.seq) else { break };
            looked += rows.len();
            let redactions = self.engine.redactions(self.key, &self.head, &rows).await?;
            for row in rows.iter().filter(|row| row.seq > base) {
                if self.own_turn(row) {
                    return Ok((unread, false));
                }
                if !redactions.contains_key(&row.seq) {
                    self.count(row, &mut unread);
                }
            }
            next = Seq::new(oldest.get() - 1);
        }
        if next > base {
            unread.notifications += self.counted_between(base, next).await?;
        }
        Ok((unread, true))
    }

    /// Whether everything before a row is read: the user sent it, or joined by it.
    fn own_turn(&self, row: &StoredRow) -> bool {
        let user_id = &self.request.viewer.user_id;
        let sent = row.event.as_ref().is_some_and(|event| event.sender == *user_id && event.state_key.is_none());
        let joined = row
            .meta
            .membership
            .as_ref()
            .is_some_and(|change| change.user_id == *user_id && change.changed && change.membership == "join");
        sent || joined
    }

    fn count(&self, row: &StoredRow, unread: &mut Unread) {
        let Some(event) = &row.event else { return };
        if event.sender == self.request.viewer.user_id {
            return;
        }
        let mentioned = mentions(event.content.get(), self.request.viewer.user_id.as_str());
        if row.meta.notifies || mentioned {
            unread.notifications += 1;
        }
        if mentioned {
            unread.highlights += 1;
        }
    }

    /// By the running counts: events of others and own ones alike, since own ones would have ended the looking.
    async fn counted_between(&self, base: Seq, to: Seq) -> Result<u64, SyncError> {
        let at = |seq: Seq| async move {
            Ok::<_, SyncError>(
                self.engine.rooms.back(self.key, seq, 1).await?.pop().map_or(0, |row| row.meta.counts.notifying),
            )
        };
        let before = if base == Seq::ZERO { 0 } else { at(base).await? };
        Ok(at(to).await?.saturating_sub(before))
    }
}

/// Whether `m.mentions` of a content names the user. (`.m.rule.is_user_mention`)
fn mentions(content: &str, user_id: &str) -> bool {
    // Hardly any content has mentions: looking for the word is cheaper than reading it all.
    if !content.contains("m.mentions") {
        return false;
    }
    let content: serde_json::Value = serde_json::from_str(content).unwrap_or_default();
    let users = content["m.mentions"]["user_ids"].as_array();
    users.is_some_and(|users| users.iter().any(|user| user == user_id))
}
