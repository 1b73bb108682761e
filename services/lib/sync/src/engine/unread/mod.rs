//! Unread counts: what the user hasn't read of a room, exactly, with no row per member and message. Rows after what the user has read
//! are looked at one by one, and once: the count is kept and added to. Of whole buckets a tally is kept that serves every user.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#receiving-notifications>

mod counted;
mod counts;
mod tally;

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc};

use polity_core::{
    BUCKET_LEN, Bucket, Seq,
    mutation::{Mutation, planted},
};
use polity_store::{rooms::redactions_between, users::OwnReceipt};

use self::{
    counted::{ByThread, Counted, Place, Read},
    tally::Tally,
};
use super::{JoinedRoom, SyncError, Unread, pass::RoomPass};
use crate::read::{ReadError, StoredRow};

pub use counted::UnreadCounts;
pub(crate) use counts::{Counting, counts};

/// Rows that are added to a kept count; after more, it is made anew.
const ADDED: u64 = 256;

impl RoomPass<'_> {
    /// Whose counts a pass makes.
    pub(crate) fn viewer_for_counts(&self) -> Counting<'_> {
        Counting { user_id: &self.request.viewer.user_id, settings: &self.settings }
    }

    /// Sets a section's counts: what is new to the user after receipts and the join, up to the head.
    pub(crate) async fn count_unread(&self, room: &mut JoinedRoom) -> Result<(), SyncError> {
        let counted = self.unread().await?;
        let apart = self.request.filter.room.timeline.unread_thread_notifications;
        let mut threads = Vec::new();
        for (thread, unread) in &counted.unread {
            match thread {
                Some(root) if apart => threads.push((root.clone(), *unread)),
                _ => room.unread += *unread,
            }
        }
        room.unread_threads = apart.then_some(threads);
        Ok(())
    }

    async fn unread(&self) -> Result<Arc<Counted>, SyncError> {
        let place = (self.key, self.request.viewer.user_log);
        let receipts = self.engine.receipts(&self.request.viewer, (&self.room_id, self.key)).await?;
        let kept = self.engine.unread.get(&place);
        if let Some(kept) = kept.filter(|kept| self.is_about_now(kept, &receipts)) {
            if kept.up_to == self.head.seq {
                return Ok(kept);
            }
            if let Some(unread) = self.added(&kept).await? {
                return Ok(self.keep(place, kept.read.clone(), unread));
            }
        }
        let read = Read::new(self.since().await?, self.of_this_life(&receipts));
        let unread = self.counted(&read).await?;
        Ok(self.keep(place, read, unread))
    }

    fn keep(&self, place: Place, read: Read, unread: ByThread) -> Arc<Counted> {
        let counted = Counted { read, settings: Arc::clone(&self.settings), up_to: self.head.seq, unread };
        let counted = Arc::new(counted);
        self.engine.unread.set(place, Arc::clone(&counted));
        counted
    }

    fn of_this_life<'r>(&self, receipts: &'r [OwnReceipt]) -> impl Iterator<Item = &'r OwnReceipt> {
        let life = self.key.life;
        receipts.iter().filter(move |receipt| receipt.position.life == life)
    }

    /// Where the user's stretch in the room began.
    async fn since(&self) -> Result<Seq, SyncError> {
        let user_id = self.request.viewer.user_id.as_str();
        let own = self.engine.rooms.state_event(self.key, &self.now(), "m.room.member", user_id).await?;
        Ok(own.and_then(|own| own.meta.membership.as_ref().map(|change| change.since)).unwrap_or(Seq::ZERO))
    }

    /// Whether a kept count is about what the user has read and set now, and not far behind.
    fn is_about_now(&self, kept: &Counted, receipts: &[OwnReceipt]) -> bool {
        kept.up_to <= self.head.seq
            && self.head.seq.get() - kept.up_to.get() <= ADDED
            && kept.settings == self.settings
            && Read::new(kept.read.since, self.of_this_life(receipts)) == kept.read
            && kept.read.furthest() <= kept.up_to
    }

    /// A kept count with what came since; `None` if that changes what was counted.
    async fn added(&self, kept: &Counted) -> Result<Option<ByThread>, SyncError> {
        let rows = self.rows(kept.up_to, self.head.seq).await?;
        let redacted: BTreeSet<Seq> = rows.iter().filter_map(|(row, _)| row.meta.redacts.as_ref()?.1).collect();
        let subtracted = planted(Mutation::RedactionSubtracted);
        if redacted.iter().any(|target| *target > kept.read.floor && *target <= kept.up_to) && !subtracted {
            return Ok(None);
        }
        for (row, _) in &rows {
            if self.own_change(row).await?.is_some() && !planted(Mutation::UnreadRejoin) {
                return Ok(None);
            }
        }
        let mut unread = kept.unread.clone();
        if subtracted && let Some(main) = unread.get_mut(&None) {
            main.notifications = main.notifications.saturating_sub(redacted.len() as u64);
        }
        let new = rows.iter().filter(|(row, _)| !redacted.contains(&row.seq));
        self.count(new.map(|(row, rings)| (&**row, *rings)), &kept.read, &mut unread);
        Ok(Some(unread))
    }

    /// The rows with `after < seq <= to`, oldest first, each with whether it highlights for everybody: the running count says so.
    async fn rows(&self, after: Seq, to: Seq) -> Result<Vec<(Arc<StoredRow>, bool)>, SyncError> {
        let count = usize::try_from(to.get() - after.get()).unwrap_or(usize::MAX);
        // With the row before them: its count is where theirs begin.
        let mut rows = self.engine.rooms.back(self.key, to, count.saturating_add(1)).await?;
        let before = if rows.len() > count { rows.pop() } else { None };
        let mut highlights = before.map_or(0, |before| before.meta.counts.highlights);
        rows.reverse();
        let with_rings = |row: Arc<StoredRow>| {
            let rings = row.meta.counts.highlights > highlights;
            highlights = row.meta.counts.highlights;
            (row, rings)
        };
        Ok(rows.into_iter().map(with_rings).collect())
    }

    fn count<'a>(&self, rows: impl Iterator<Item = (&'a StoredRow, bool)>, read: &Read, unread: &mut ByThread) {
        let counting = self.viewer_for_counts();
        for (row, rings) in rows {
            if row.seq > read.of(row.meta.thread.as_ref())
                && let Some(one) = counts::unread_of(row, rings, counting)
            {
                *unread.entry(row.meta.thread.clone()).or_default() += one;
            }
        }
    }

    /// The count made anew, bucket by bucket.
    async fn counted(&self, read: &Read) -> Result<ByThread, SyncError> {
        let mut unread = ByThread::new();
        let mut after = read.floor;
        let late = self.redacted_lately().await?;
        while after < self.head.seq {
            let bucket = after.next().bucket();
            let (first, last) = (after.next(), bucket.last_seq().min(self.head.seq));
            let redacted = self.redacted_in(first, last, &late).await?;
            let whole = first.get() == (bucket.get() * BUCKET_LEN).max(1) && last == bucket.last_seq();
            if whole && !read.ends_within(first, last) {
                let tally = self.tally(bucket, (after, last), redacted).await?;
                for (thread, count) in tally.of(self.viewer_for_counts()) {
                    if read.of(thread.as_ref()) < first && count != Unread::default() {
                        *unread.entry(thread.clone()).or_default() += count;
                    }
                }
            } else {
                let rows = self.rows(after, last).await?;
                let rows = rows.iter().filter(|(row, _)| !redacted.contains(&row.seq));
                self.count(rows.map(|(row, rings)| (&**row, *rings)), read, &mut unread);
            }
            after = last;
        }
        Ok(unread)
    }

    /// Which of some rows of one bucket were redacted by the head, which the count is told with: the index may know of later ones. Without
    /// a read if nothing in the room is.
    async fn redacted_in(&self, first: Seq, last: Seq, late: &[Seq]) -> Result<BTreeSet<Seq>, SyncError> {
        if self.head.room.redactions == 0 {
            return Ok(BTreeSet::new());
        }
        let redacted = redactions_between(&*self.engine.store, self.key, first, last).await.map_err(ReadError::from)?;
        let late = late.iter().copied().filter(|target| (first..=last).contains(target));
        let by_now = redacted.into_iter().filter(|redacted| redacted.at <= self.head.seq);
        Ok(by_now.map(|redacted| redacted.seq).chain(late).collect())
    }

    /// What the newest rows redact: the index of redactions is written after them.
    async fn redacted_lately(&self) -> Result<Vec<Seq>, SyncError> {
        if self.head.room.redactions == 0 {
            return Ok(Vec::new());
        }
        let rows = self.engine.rooms.back(self.key, self.head.seq, usize::try_from(ADDED).unwrap_or(1)).await?;
        Ok(rows.iter().filter_map(|row| row.meta.redacts.as_ref()?.1).collect())
    }

    async fn tally(
        &self,
        bucket: Bucket,
        (after, last): (Seq, Seq),
        redacted: BTreeSet<Seq>,
    ) -> Result<Arc<Tally>, SyncError> {
        let name = (self.key, bucket);
        if let Some(tally) = self.engine.unread.tally(&name).filter(|tally| tally.redacted == redacted) {
            return Ok(tally);
        }
        let rows = self.rows(after, last).await?;
        let tally = Arc::new(Tally::new(rows.iter().map(|(row, rings)| (&**row, *rings)), redacted));
        self.engine.unread.keep_tally(name, &tally);
        Ok(tally)
    }
}
