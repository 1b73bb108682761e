//! What is new to a client: everywhere, or in the rooms that are said to have moved.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use polity_core::{
    LogKey, Seq,
    mutation::{Mutation, planted},
    sync_token::{EphemeralPosition, RoomEntry, Told},
};
use polity_store::rooms::Membership;
use ruma_common::{OwnedRoomId, RoomId};

use super::{
    Answer, Engine, JoinedRoom, LeftRoom, SyncError, SyncRequest,
    pass::RoomPass,
    progress::Progress,
    room::{Outcome, Section},
    settings::Settings,
    sharing::Sharing,
    stretch::membership_of,
};
use crate::{filter, read::StateView};

/// A user's rooms, and how the user stands in each.
pub(crate) type Memberships = Vec<(OwnedRoomId, Membership)>;

/// Room account data that is new, by room.
pub(crate) type RoomAccountData = HashMap<OwnedRoomId, Vec<Bytes>>;

/// One look for one request.
pub(crate) struct Look<'a> {
    /// The request.
    pub request: &'a SyncRequest,
    /// What the user has set, once that was asked for: most looks find nothing that it could change.
    settings: Option<Arc<Settings>>,
    /// When the answer is made (Unix milliseconds).
    pub now_ms: u64,
    /// The answer so far.
    pub answer: Answer,
    /// Rooms that the client wasn't told of as a member's before. What the user keeps of them it wasn't told either.
    entered: BTreeSet<OwnedRoomId>,
    /// Who came to share encrypted rooms with the user, and who may no longer do.
    pub sharing: Sharing,
}

impl Look<'_> {
    /// A room was purged, and has no other life yet: who was told of it learns that that is over, and nothing else, for nothing else can be
    /// read any more. (Also not with whom it was shared: whose devices needn't be followed any more is not told.)
    fn room_is_over(&mut self, progress: &mut Progress, room_id: &RoomId, entry: Option<RoomEntry>) {
        if entry.is_some() || progress.knows.forgot_its_rooms() {
            progress.rooms.set(&self.request.viewer.token_key, room_id, None);
            self.answer.left.push((room_id.to_owned(), LeftRoom::default()));
        }
    }
}

impl Engine {
    /// Begins a look at the state of now.
    fn begin_look<'a>(&self, request: &'a SyncRequest) -> Look<'a> {
        let now_ms = self.clock.now_ms();
        Look {
            request,
            settings: None,
            now_ms,
            answer: Answer::default(),
            entered: BTreeSet::new(),
            sharing: Sharing::default(),
        }
    }

    /// What the request's user has set, as it stood when the look first asked.
    async fn settings_of(&self, look: &mut Look<'_>) -> Result<Arc<Settings>, SyncError> {
        if let Some(settings) = &look.settings {
            return Ok(Arc::clone(settings));
        }
        let settings = self.settings(&look.request.viewer).await?;
        look.settings = Some(Arc::clone(&settings));
        Ok(settings)
    }

    /// Looks everywhere. `progress` becomes what the client knows after the answer.
    pub(crate) async fn collect(
        &self,
        request: &SyncRequest,
        progress: &mut Progress,
        memberships: &[(OwnedRoomId, Membership)],
    ) -> Result<Answer, SyncError> {
        let ephemeral_now = self.ephemeral.position();
        let mut answer = Answer::default();
        let account_data = self.record_news(request, progress, &mut answer).await?;
        let of_rooms = account_data.values().flatten();
        progress.share.grow(of_rooms.chain(&answer.account_data).map(Bytes::len).sum())?;
        let mut look = self.begin_look(request);
        look.answer = answer;
        let key = &request.viewer.token_key;
        progress.rooms.note_collisions(memberships.iter().map(|(room_id, _)| key.room(room_id.as_str())));
        for (room_id, row) in memberships {
            if filter::concerns(&request.filter, room_id) {
                self.look_at(&mut look, progress, (room_id, Some(row)), progress.at.ephemeral).await?;
            }
        }
        self.room_account_data(&mut look, progress, account_data).await?;
        let answer = self.device_news(look, progress, Some(memberships)).await?;
        progress.at.ephemeral = ephemeral_now;
        Ok(answer)
    }

    /// Looks at some of the rooms that the client is told of, and for whatever isn't a room's.
    pub(crate) async fn collect_rooms(
        &self,
        request: &SyncRequest,
        progress: &mut Progress,
        rooms: &BTreeSet<OwnedRoomId>,
        ephemeral_now: EphemeralPosition,
    ) -> Result<Answer, SyncError> {
        let mut look = self.begin_look(request);
        for room_id in rooms {
            // Without its row: late rows change nothing, the room's own decide.
            if filter::concerns(&request.filter, room_id) {
                self.look_at(&mut look, progress, (room_id, None), progress.at.ephemeral).await?;
            }
        }
        self.room_account_data(&mut look, progress, RoomAccountData::new()).await?;
        let answer = self.device_news(look, progress, None).await?;
        progress.at.ephemeral = ephemeral_now;
        Ok(answer)
    }

    /// Looks at one room and notes what the client will know of it.
    async fn look_at(
        &self,
        look: &mut Look<'_>,
        progress: &mut Progress,
        (room_id, row): (&RoomId, Option<&Membership>),
        ephemeral: EphemeralPosition,
    ) -> Result<(), SyncError> {
        let request = look.request;
        let entry = progress.rooms.get(&request.viewer.token_key, room_id);
        let in_room = row.is_some_and(|row| matches!(row.membership.as_str(), "join" | "invite" | "knock"));
        let archived = progress.knows.forgot_its_rooms()
            || (progress.knows == super::progress::Knows::Nothing && request.filter.room.include_leave);
        if entry.is_none() && !in_room && !archived {
            return Ok(());
        }
        let Some(key) = self.rooms.key(request.viewer.tenant, room_id).await? else { return Ok(()) };
        if let Some(entry) = entry
            && !request.full_state
            && self.is_unmoved(key, entry, row, ephemeral)
        {
            return Ok(());
        }
        if let (Some(row), None, false) = (row, entry, archived)
            && self.is_ignored_invitation(look, key, row).await?
        {
            return Ok(());
        }
        let head = if enters(key, entry, row) {
            self.rooms.fresh_head(key).await?
        } else {
            let told = entry.filter(|entry| entry.position.life == key.life).map(|entry| entry.position.seq);
            self.rooms.head_from(key, told.unwrap_or(Seq::ZERO)).await?
        };
        let Some(head) = head else {
            look.room_is_over(progress, room_id, entry);
            return Ok(());
        };
        let (settings, now_ms) = (self.settings_of(look).await?, look.now_ms);
        let room_id = room_id.to_owned();
        let share = Arc::clone(&progress.share);
        let (knows, own_token) = (progress.knows, self.ephemeral.is_own(progress.at.elsewhere.newest()));
        let pass = RoomPass { engine: self, request, settings, room_id, key, head, now_ms, knows, own_token, share };
        let outcome = match pass.outcome(entry, row, ephemeral).await {
            // Rows and states are deleted while they are read.
            Err(_) if self.rooms.fresh_head(key).await?.is_none() => {
                look.room_is_over(progress, &pass.room_id, entry);
                return Ok(());
            }
            outcome => outcome?,
        };
        let Outcome { section, entry: next, sharing } = outcome;
        progress.rooms.set(&request.viewer.token_key, &pass.room_id, next);
        look.sharing.add(sharing);
        let (room_id, answer) = (pass.room_id, &mut look.answer);
        match section {
            Section::None => {}
            Section::Joined(room) => {
                if entry.is_none_or(|entry| entry.told != Told::Member) {
                    look.entered.insert(room_id.clone());
                }
                answer.joined.push((room_id, *room));
            }
            Section::Left(room) => answer.left.push((room_id, *room)),
            Section::Stripped(Told::Knocking, events) => answer.knocked.push((room_id, events)),
            Section::Stripped(_, events) => answer.invited.push((room_id, events)),
        }
        Ok(())
    }

    /// Whether the user is only invited, by somebody ignored: that isn't told, and shall cost no fresh head in each sync. Whatever the user
    /// becomes after the head that is known here moves the row past it, and an invitation that was told waits for its row, too.
    async fn is_ignored_invitation(
        &self,
        look: &mut Look<'_>,
        key: LogKey,
        row: &Membership,
    ) -> Result<bool, SyncError> {
        if row.membership != "invite" || row.position.life != key.life {
            return Ok(false);
        }
        let settings = self.settings_of(look).await?;
        if settings.ignored.is_empty() {
            return Ok(false);
        }
        let head = self.rooms.head(key).await?;
        let Some(head) = head.filter(|head| head.seq >= row.position.seq) else { return Ok(false) };
        let (state, user_id) = (StateView::at_roots(head.room.roots), look.request.viewer.user_id.as_str());
        // What can't be read may be deleted: a fresh head tells.
        let own = self.rooms.state_event(key, &state, "m.room.member", user_id).await.ok().flatten();
        let own = own.as_deref().and_then(membership_of);
        Ok(own.is_some_and(|(membership, sender)| membership == "invite" && settings.ignores(&sender)))
    }

    /// Whether nothing can be new in a room: the head map has it where the client is, and nobody types or reads.
    fn is_unmoved(
        &self,
        key: LogKey,
        entry: RoomEntry,
        row: Option<&Membership>,
        ephemeral: EphemeralPosition,
    ) -> bool {
        let seq = entry.position.seq;
        let same_life = entry.position.life == key.life;
        let head = self.heads.get(key.tenant, key.log);
        let head_known = head == Some(seq) || (head.is_none() && planted(Mutation::AbsentIsUnmoved));
        let row_older = row.is_none_or(|row| row.position.seq <= seq);
        let waits_for_rows_only = entry.told != Told::Member;
        same_life
            && row_older
            && (head_known || waits_for_rows_only)
            && (waits_for_rows_only || !self.ephemeral.moved((key.tenant, key.log), ephemeral))
    }

    /// Puts room account data into the sections of its rooms, also of those that have nothing else.
    async fn room_account_data(
        &self,
        look: &mut Look<'_>,
        progress: &Progress,
        mut news: RoomAccountData,
    ) -> Result<(), SyncError> {
        for room_id in &look.entered {
            // Else the news are all that there is.
            if !progress.knows.lacks_the_record() {
                let all = self.account_data_of(look.request, room_id).await?;
                progress.share.grow(all.iter().map(Bytes::len).sum())?;
                news.insert(room_id.clone(), all);
            }
        }
        for (room_id, room) in &mut look.answer.joined {
            room.account_data = news.remove(room_id).unwrap_or_default();
        }
        for (room_id, room) in &mut look.answer.left {
            room.account_data = news.remove(room_id).unwrap_or_default();
        }
        let request = look.request;
        for (room_id, events) in news {
            let entry = progress.rooms.get(&request.viewer.token_key, &room_id);
            if entry.is_none_or(|entry| entry.told != Told::Member) {
                continue;
            }
            let Some(key) = self.rooms.key(request.viewer.tenant, &room_id).await? else { continue };
            let Some(head) = self.rooms.head(key).await? else { continue };
            let (settings, now_ms) = (self.settings_of(look).await?, look.now_ms);
            let share = Arc::clone(&progress.share);
            let (knows, own_token) = (progress.knows, self.ephemeral.is_own(progress.at.elsewhere.newest()));
            let pass =
                RoomPass { engine: self, request, settings, room_id, key, head, now_ms, knows, own_token, share };
            let mut room = JoinedRoom { account_data: events, ..JoinedRoom::default() };
            pass.count_unread(&mut room).await?;
            look.answer.joined.push((pass.room_id, room));
        }
        Ok(())
    }
}

/// Whether the room may enter the token, or a new stretch in it: only by a head that was read after the request came.
fn enters(key: LogKey, entry: Option<RoomEntry>, row: Option<&Membership>) -> bool {
    let Some(entry) = entry.filter(|entry| entry.position.life == key.life) else { return true };
    let later = row.filter(|row| row.position.life == key.life && row.position.seq > entry.position.seq);
    later.is_some_and(|row| entry.told != Told::Member || row.since > entry.position.seq)
}

/// The names that stand more than once.
pub(crate) fn repeated<T: std::hash::Hash + Ord + Clone>(names: impl Iterator<Item = T>) -> HashSet<T> {
    let mut names: Vec<T> = names.collect();
    names.sort_unstable();
    names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone()).collect()
}
