//! Waiting for news: a sync that finds nothing holds its positions and a few subscriptions, until something wakes it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use polity_bus::{Subject, SubjectKind};
use polity_core::{
    Life, Position, Seq, TenantId,
    sync_token::{EphemeralPosition, EphemeralPositions, SyncToken},
};
use polity_store::{Marks, schema};
use ruma_common::OwnedRoomId;
use tokio::time::Instant;

use super::{
    Answer, Engine, SyncError, SyncRequest,
    collect::Memberships,
    progress::{Knows, Positions, Progress},
    token::KnownRooms,
};
use crate::{
    live::{Dirty, Session, Watch},
    read::StoredRow,
};

/// A client may wait no longer.
const TIMEOUT_MAX: Duration = Duration::from_secs(120);

impl Engine {
    /// Answers a sync: at once if the client knows nothing yet or something is new, else when something is, or empty at the time-out.
    /// What `park` gives is held while it waits, and only then: not while anything is read.
    ///
    /// # Errors
    /// For a token that isn't this device's, and when something can't be read.
    pub async fn sync<G: Send>(&self, request: &SyncRequest, park: impl Fn() -> G + Sync) -> Result<Answer, SyncError> {
        let deadline = Instant::now() + request.timeout.min(TIMEOUT_MAX);
        let mut progress = self.begin(request).await?;
        let session = Session::new();
        // Subscribed before anything is read, so that no wake is lost.
        let (mut watch, memberships) = self.watch(request, &progress, &session).await?;
        let mut answer = self.collect(request, &mut progress, &memberships).await?;
        drop(memberships);
        while answer.is_empty() && progress.knows == Knows::Token && !request.full_state {
            let parked = park();
            let (ephemeral, dirty) = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                () = tokio::time::sleep_until(deadline) => break,
                news = session.woken(|| self.ephemeral.position()) => news,
            };
            drop(parked);
            progress.share.shrink(0);
            answer = self.look_again(request, &mut progress, &mut watch, (&dirty, ephemeral)).await?;
        }
        drop(watch);
        self.finish(request, progress, answer).await
    }

    /// What the client knows.
    pub(crate) async fn begin(&self, request: &SyncRequest) -> Result<Progress, SyncError> {
        let viewer = &request.viewer;
        let inbox = viewer.inbox;
        let token = match &request.since {
            Some(since) => Some(SyncToken::decode(since, &viewer.token_key, viewer.token_owner())?),
            None => None,
        };
        let (fresh, share) = (token.is_none(), self.answers.share((viewer.tenant, viewer.user_id.clone())));
        let Some(token) = token.filter(|token| token.store == self.store.incarnation()) else {
            let at = Positions {
                record: Seq::ZERO,
                inbox: Position::new(Life::FIRST, Seq::ZERO),
                device_lists: Seq::ZERO,
                ephemeral: EphemeralPosition::default(),
                elsewhere: EphemeralPositions::default(),
            };
            let knows = if fresh { Knows::Nothing } else { Knows::OtherStore };
            return Ok(Progress { at, rooms: KnownRooms::default(), knows, inbox, share });
        };
        let at = Positions {
            record: token.record,
            inbox: token.inbox,
            device_lists: token.device_lists,
            ephemeral: self.ephemeral.place_of(&token.ephemeral),
            elsewhere: token.ephemeral,
        };
        let rooms = KnownRooms::load(&self.store, viewer.tenant, token.rooms, self.clock.now_ms()).await?;
        let knows = if rooms.is_some() { Knows::Token } else { Knows::NotItsRooms };
        Ok(Progress { at, rooms: rooms.unwrap_or_default(), knows, inbox, share })
    }

    /// Subscribes to the user, then reads the rooms, then subscribes to them: what changes in between wakes.
    async fn watch(
        &self,
        request: &SyncRequest,
        progress: &Progress,
        session: &Arc<Session>,
    ) -> Result<(Watch<StoredRow>, Arc<Memberships>), SyncError> {
        let viewer = &request.viewer;
        let mut watch = self.interest.watch(Arc::clone(session));
        watch.add(Subject::new(SubjectKind::User, viewer.tenant, viewer.user_log));
        // Also if it is empty: a key must be told before the message that needs it.
        watch.add(Subject::new(SubjectKind::Device, viewer.tenant, progress.inbox.log));
        watch.add(Subject::new(SubjectKind::DeviceLists, viewer.tenant, viewer.device_lists));
        if !self.writers.is_none() {
            watch.add_partition(Marks::place(&schema::MEMBERSHIPS, viewer.tenant, viewer.user_id.as_str()));
        }
        watch.settled().await;
        let memberships = self.watch_rooms(request, &mut watch).await?;
        Ok((watch, memberships))
    }

    /// Subscribes to the rooms that the user is in; the memberships by which they were found.
    async fn watch_rooms(
        &self,
        request: &SyncRequest,
        watch: &mut Watch<StoredRow>,
    ) -> Result<Arc<Memberships>, SyncError> {
        let viewer = &request.viewer;
        let rows = self.own_memberships(viewer).await?;
        for (room_id, row) in rows.iter() {
            if row.membership == "join"
                && let Some(key) = self.rooms.key(viewer.tenant, room_id).await?
            {
                watch.add(Subject::new(SubjectKind::Room, viewer.tenant, key.log));
            }
        }
        watch.settled().await;
        Ok(rows)
    }

    /// Looks where something may be new: everywhere only if the user's own rooms or record may have changed.
    async fn look_again(
        &self,
        request: &SyncRequest,
        progress: &mut Progress,
        watch: &mut Watch<StoredRow>,
        (dirty, ephemeral): (&Dirty, EphemeralPosition),
    ) -> Result<Answer, SyncError> {
        if !dirty.all
            && !dirty.user
            && let Some(rooms) = self.named(request.viewer.tenant, dirty)
        {
            return self.collect_rooms(request, progress, &rooms, ephemeral).await;
        }
        let memberships = self.watch_rooms(request, watch).await?;
        self.collect(request, progress, &memberships).await
    }

    /// The rooms of some logs; `None` if one wasn't looked at lately.
    fn named(&self, tenant: TenantId, dirty: &Dirty) -> Option<BTreeSet<OwnedRoomId>> {
        dirty.rooms.iter().chain(&dirty.ephemeral).map(|log| self.rooms.id_of(tenant, *log)).collect()
    }

    async fn finish(&self, request: &SyncRequest, progress: Progress, mut answer: Answer) -> Result<Answer, SyncError> {
        // A section without an event that the client waits for is none.
        answer.joined.sort_by(|a, b| a.0.cmp(&b.0));
        answer.keys = self.device_keys(&request.viewer).await?;
        let Progress { at, rooms, share, .. } = progress;
        answer.share = Some(share);
        let (tenant, now_ms) = (request.viewer.tenant, self.clock.now_ms());
        let token = SyncToken {
            store: self.store.incarnation(),
            record: at.record,
            inbox: at.inbox,
            device_lists: at.device_lists,
            ephemeral: at.elsewhere.with(at.ephemeral),
            rooms: rooms.seal(&self.store, &*self.random, (tenant, self.rooms_held), now_ms).await?,
        };
        answer.next_batch = token.encode(&request.viewer.token_key, request.viewer.token_owner());
        Ok(answer)
    }
}
