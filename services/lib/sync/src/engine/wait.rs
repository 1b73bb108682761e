//! Waiting for news: a sync that finds nothing holds its positions and a few subscriptions, until something wakes it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use polity_bus::{Subject, SubjectKind};
use polity_core::{
    Life, LogKey, Position, Seq,
    sync_token::{EphemeralPosition, RoomEntry, SyncToken, Told},
};
use polity_store::rooms::memberships;
use tokio::time::Instant;

use super::{
    Answer, Engine, SyncError, SyncRequest,
    collect::{Memberships, Positions, Progress},
    pass::RoomPass,
    token::{self, KnownRooms},
};
use crate::{
    live::{Dirty, Session, Watch},
    read::{ReadError, StoredRow},
};

/// A client may wait no longer.
const TIMEOUT_MAX: Duration = Duration::from_secs(120);

impl Engine {
    /// Answers a sync: at once if the client knows nothing yet or something is new, else when something is, or empty at the time-out.
    ///
    /// # Errors
    /// For a token that isn't this device's, and when something can't be read.
    pub async fn sync(&self, request: &SyncRequest) -> Result<Answer, SyncError> {
        let deadline = Instant::now() + request.timeout.min(TIMEOUT_MAX);
        let mut progress = self.begin(request).await?;
        let session = Session::new();
        // Subscribed before anything is read, so that no wake is lost.
        let (mut watch, memberships) = self.watch(request, &session).await?;
        let mut answer = self.collect(request, &mut progress, &memberships).await?;
        drop(memberships);
        while answer.is_empty() && !progress.initial && !request.full_state {
            let dirty = tokio::select! {
                dirty = session.woken() => dirty,
                () = tokio::time::sleep_until(deadline) => break,
                () = self.stop.cancelled() => break,
            };
            answer = self.look_again(request, &mut progress, &mut watch, &dirty).await?;
        }
        drop(watch);
        self.finish(request, progress, answer).await
    }

    /// What the client knows.
    async fn begin(&self, request: &SyncRequest) -> Result<Progress, SyncError> {
        let nothing = Positions {
            record: Seq::ZERO,
            inbox: Position::new(Life::FIRST, Seq::ZERO),
            device_lists: Seq::ZERO,
            ephemeral: EphemeralPosition::default(),
        };
        let token = match &request.since {
            Some(since) => token::decode(&*self.store, &request.viewer, since)?,
            None => None,
        };
        let Some(token) = token else {
            return Ok(Progress { at: nothing, rooms: KnownRooms::default(), initial: true });
        };
        let at = Positions {
            record: token.record,
            inbox: token.inbox,
            device_lists: token.device_lists,
            ephemeral: token.ephemeral,
        };
        let rooms = KnownRooms::load(&*self.store, request.viewer.tenant, token.rooms).await?;
        // Without its snapshot the client's rooms are told anew; its inbox and device lists stay exact.
        let initial = rooms.is_none();
        Ok(Progress { at, rooms: rooms.unwrap_or_default(), initial })
    }

    /// Subscribes to the user, then reads the rooms, then subscribes to them: what changes in between wakes.
    async fn watch(
        &self,
        request: &SyncRequest,
        session: &Arc<Session>,
    ) -> Result<(Watch<StoredRow>, Memberships), SyncError> {
        let viewer = &request.viewer;
        let mut watch = self.interest.watch(Arc::clone(session));
        watch.add(Subject::new(SubjectKind::User, viewer.tenant, crate::user_log(viewer.tenant, &viewer.user_id)));
        // Also if it is empty: a key must be told before the message that needs it.
        watch.add(Subject::new(SubjectKind::Device, viewer.tenant, viewer.device().inbox().log));
        let memberships = self.watch_rooms(request, &mut watch).await?;
        Ok((watch, memberships))
    }

    /// Subscribes to the rooms that the user is in; the memberships by which they were found.
    async fn watch_rooms(&self, request: &SyncRequest, watch: &mut Watch<StoredRow>) -> Result<Memberships, SyncError> {
        let viewer = &request.viewer;
        let rows = memberships(&*self.store, viewer.tenant, &viewer.user_id).await.map_err(ReadError::from)?;
        for (room_id, row) in &rows {
            if row.membership == "join"
                && let Some(key) = self.rooms.key(viewer.tenant, room_id).await?
            {
                watch.add(Subject::new(SubjectKind::Room, viewer.tenant, key.log));
                watch.add(Subject::new(SubjectKind::RoomEphemeral, viewer.tenant, key.log));
            }
        }
        Ok(rows)
    }

    /// Looks where something may be new. Rooms whose new rows came over the bus are worked out from memory.
    async fn look_again(
        &self,
        request: &SyncRequest,
        progress: &mut Progress,
        watch: &mut Watch<StoredRow>,
        dirty: &Dirty,
    ) -> Result<Answer, SyncError> {
        let only_rows = Dirty { rooms: dirty.rooms.clone(), ..Dirty::default() } == *dirty;
        if only_rows && let Some(answer) = self.live_rows(request, progress, dirty).await? {
            return Ok(answer);
        }
        let memberships = self.watch_rooms(request, watch).await?;
        self.collect(request, progress, &memberships).await
    }

    /// The live path: rooms in which the client is a member and has missed nothing, from memory. `None` if it isn't that simple.
    async fn live_rows(
        &self,
        request: &SyncRequest,
        progress: &mut Progress,
        dirty: &Dirty,
    ) -> Result<Option<Answer>, SyncError> {
        let mut answer = Answer::default();
        let mut members_moved = false;
        for log in &dirty.rooms {
            let subject = Subject::new(SubjectKind::Room, request.viewer.tenant, *log);
            let Some(room_id) = self.rooms.id_of(request.viewer.tenant, *log) else { return Ok(None) };
            let Some(entry) = progress.rooms.get(&request.viewer.token_key, &room_id) else { return Ok(None) };
            let Some(rows) = self.interest.rows_after(subject, entry.position.seq) else { return Ok(None) };
            let Some((last, _)) = rows.last() else { continue };
            let mut own = false;
            for change in rows.iter().filter_map(|(_, row)| row.meta.membership.as_ref()) {
                members_moved = true;
                own |= change.user_id == request.viewer.user_id;
            }
            if own || entry.told != Told::Member || request.full_state {
                return Ok(None);
            }
            let key = LogKey { tenant: request.viewer.tenant, log: *log, life: entry.position.life };
            let Some(head) = self.rooms.head(key).await? else { return Ok(None) };
            let pass =
                RoomPass { engine: self, request, room_id: room_id.clone(), key, head, now_ms: self.clock.now_ms() };
            let known = super::joined::Known::UpTo(entry.position.seq);
            let position = Position::new(key.life, pass.head.seq.max(*last));
            let entry = RoomEntry { told: Told::Member, position };
            if let Some(room) = pass.joined(known, progress.at.ephemeral).await? {
                answer.joined.push((room_id.clone(), room));
            }
            progress.rooms.advance(&request.viewer.token_key, &room_id, entry);
        }
        if members_moved {
            self.sharing_changes(request, &mut answer, BTreeSet::new()).await?;
        }
        self.key_counts(request, &mut answer).await?;
        Ok(Some(answer))
    }

    async fn finish(&self, request: &SyncRequest, progress: Progress, mut answer: Answer) -> Result<Answer, SyncError> {
        // A section without an event that the client waits for is none.
        answer.joined.sort_by(|a, b| a.0.cmp(&b.0));
        let Progress { at, rooms, .. } = progress;
        let token = SyncToken {
            store: self.store.incarnation(),
            record: at.record,
            inbox: at.inbox,
            device_lists: at.device_lists,
            ephemeral: at.ephemeral,
            rooms: rooms.seal(&self.store, &*self.random, request).await?,
        };
        answer.next_batch = token.encode(&request.viewer.token_key, &request.viewer.token_owner());
        Ok(answer)
    }
}
