//! Who waits for what.

use std::{
    collections::{BTreeMap, HashMap, hash_map},
    sync::Arc,
    time::Duration,
};

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use polity_bus::{Subject, SubjectKind, Subscriptions};
use polity_cluster::digest::Entry;
use polity_core::{
    Seq,
    mutation::{Mutation, planted},
};
use polity_store::MarkPlace;
use slab::Slab;
use tokio::sync::Notify;

use super::{Ring, Session};

/// How long a subject stays subscribed after the last sync that waited for it: clients come back at once.
const LINGER: Duration = Duration::from_secs(90);
/// Room in a watch for what most have: the user, the device, the device lists and some rooms.
const MOSTLY: usize = 7;
/// Bytes of the newest rows of all rooms that are watched. While there are more, rooms with news keep none: they are read.
const RINGS: usize = if cfg!(test) { 1 << 20 } else { 256 << 20 };
/// What is woken when a log is said to have moved.
const LOGS: [SubjectKind; 3] = [SubjectKind::User, SubjectKind::Device, SubjectKind::DeviceLists];
/// How long a room's row is waited for whose number is known already: it is on its way, and who is woken before it reads the store.
const GRACE: Duration = Duration::from_millis(100);

/// The subjects that syncs of this process wait for, and the rooms' newest rows. `R` is a row.
pub struct Interest<R> {
    subscriptions: Box<dyn Subscriptions>,
    watched: Mutex<Watched<R>>,
    owes: Notify,
}

struct Watched<R> {
    /// What is ephemeral in a room has no entry of its own: who watches the room hears of both.
    subjects: HashMap<Subject, Watchers<R>, RandomState>,
    /// What their rings take.
    bytes: usize,
    /// Rooms that are said to have come so far, while that row hasn't come.
    owed: BTreeMap<Subject, Seq>,
    /// By the partition that they look at and no log tells of.
    partitions: HashMap<MarkPlace, Sessions, RandomState>,
}

/// In places of their own: one of very many ends without a search.
type Sessions = Slab<Arc<Session>>;

struct Watchers<R> {
    sessions: Sessions,
    /// Up to which row of the log they were woken.
    told: Seq,
    /// Rows of a room that came while it was watched.
    ring: Ring<R>,
    /// The sweep that found it without sessions.
    idle_since: Option<Duration>,
}

/// A session's interest in some subjects; dropping it ends it.
pub struct Watch<R> {
    interest: Arc<Interest<R>>,
    session: Arc<Session>,
    /// Each with the session's place among its watchers.
    subjects: HashMap<Subject, usize, RandomState>,
    partition: Option<(MarkPlace, usize)>,
}

// === impl Interest ===

impl<R> Interest<R> {
    /// Nobody waits for anything yet.
    #[must_use]
    pub fn new(subscriptions: Box<dyn Subscriptions>) -> Arc<Self> {
        let (subjects, partitions) = (HashMap::default(), HashMap::default());
        let watched = Watched { subjects, bytes: 0, owed: BTreeMap::new(), partitions };
        Arc::new(Self { subscriptions, watched: Mutex::new(watched), owes: Notify::new() })
    }

    /// Begins to watch for `session`, nothing yet.
    #[must_use]
    pub fn watch(self: &Arc<Self>, session: Arc<Session>) -> Watch<R> {
        let subjects = HashMap::with_capacity_and_hasher(MOSTLY, RandomState::default());
        Watch { interest: Arc::clone(self), session, subjects, partition: None }
    }

    /// Takes a new row of a room in, of about so many bytes, and wakes whoever watches it.
    pub fn row(&self, subject: Subject, seq: Seq, row: Arc<R>, bytes: usize) {
        let mut watched = self.watched.lock();
        let Watched { subjects, bytes: all, .. } = &mut *watched;
        if let Some(watchers) = subjects.get_mut(&subject) {
            *all -= watchers.ring.bytes();
            watchers.ring.push(seq, row, bytes);
            if *all + watchers.ring.bytes() > RINGS {
                watchers.ring = Ring::default();
            }
            *all += watchers.ring.bytes();
            watchers.told = watchers.told.max(seq);
            wake(subject, watchers);
        }
    }

    /// Wakes whoever watches a subject.
    pub fn wake(&self, subject: Subject) {
        if let Some(watchers) = self.watched.lock().subjects.get(&watched_as(subject)) {
            wake(subject, watchers);
        }
    }

    /// Wakes whoever watches a subject whose log has come so far.
    pub fn wake_at(&self, subject: Subject, seq: Seq) {
        if let Some(watchers) = self.watched.lock().subjects.get_mut(&subject) {
            watchers.told = watchers.told.max(seq);
            wake(subject, watchers);
        }
    }

    /// Whoever watches a subject is woken of what its log has up to `seq` by the caller; the last row of which they were told before.
    pub fn told(&self, subject: Subject, seq: Seq) -> Option<Seq> {
        let mut watched = self.watched.lock();
        let watchers = watched.subjects.get_mut(&subject)?;
        let before = watchers.told;
        watchers.told = before.max(seq);
        Some(before)
    }

    /// Wakes whoever watches what was written, unless he was woken of it already. Who watches a room gets some time to hear of the row
    /// itself ([`Interest::run`]).
    pub fn written(&self, entries: &[Entry]) {
        let mut watched = self.watched.lock();
        let Watched { subjects, partitions, owed, .. } = &mut *watched;
        for entry in entries {
            match *entry {
                Entry::Head { tenant, log, seq } => {
                    let room = Subject::new(SubjectKind::Room, tenant, log);
                    if subjects.get(&room).is_some_and(|watchers| watchers.told < seq) {
                        let owed = owed.entry(room).or_insert(seq);
                        *owed = (*owed).max(seq);
                        self.owes.notify_one();
                    }
                    for subject in LOGS.map(|kind| Subject::new(kind, tenant, log)) {
                        if let Some(watchers) = subjects.get_mut(&subject).filter(|watchers| watchers.told < seq) {
                            watchers.told = seq;
                            wake(subject, watchers);
                        }
                    }
                }
                Entry::Mark(place) => {
                    for (_, session) in partitions.get(&place).into_iter().flatten() {
                        session.wake(|dirty| dirty.user = true);
                    }
                }
                Entry::Later(_) => {}
            }
        }
    }

    /// Wakes whoever watches a room of which a row was written that hasn't come for a while. Runs until it is dropped.
    pub async fn run(&self) {
        loop {
            self.owes.notified().await;
            let owed = std::mem::take(&mut self.watched.lock().owed);
            tokio::time::sleep(GRACE).await;
            let mut watched = self.watched.lock();
            for (room, seq) in owed {
                if let Some(watchers) = watched.subjects.get_mut(&room).filter(|watchers| watchers.told < seq) {
                    watchers.told = seq;
                    wake(room, watchers);
                }
            }
        }
    }

    /// Wakes whoever watches any of these rooms because devices of one of their members changed.
    pub fn wake_device_lists(&self, rooms: impl IntoIterator<Item = Subject>) {
        let watched = self.watched.lock();
        for watchers in rooms.into_iter().filter_map(|room| watched.subjects.get(&room)) {
            for (_, session) in &watchers.sessions {
                session.wake(|dirty| dirty.device_lists = true);
            }
        }
    }

    /// Messages were lost: everybody looks everywhere, and no ring is trusted.
    pub fn lost(&self) {
        let mut watched = self.watched.lock();
        watched.bytes = 0;
        let mut all: Vec<_> = watched.subjects.iter_mut().collect();
        // In an order that is the same each time: what follows from it can be played again.
        all.sort_unstable_by_key(|(subject, _)| **subject);
        for (_, watchers) in all {
            watchers.ring = Ring::default();
            for (_, session) in &watchers.sessions {
                session.wake(|dirty| dirty.all = true);
            }
        }
    }

    /// The `count` rows of a room up to `from`, newest first, if all of them are in memory.
    #[must_use]
    pub fn back(&self, subject: Subject, from: Seq, count: usize) -> Option<Vec<Arc<R>>> {
        self.watched.lock().subjects.get(&subject)?.ring.back(from, count)
    }

    /// Ends the subscriptions that nobody has used for a while. `now` is monotonic.
    pub fn sweep(&self, now: Duration) {
        let mut watched = self.watched.lock();
        let Watched { subjects, bytes: all, .. } = &mut *watched;
        subjects.retain(|subject, watchers| {
            if !watchers.sessions.is_empty() {
                watchers.idle_since = None;
                return true;
            }
            let keep = now.saturating_sub(*watchers.idle_since.get_or_insert(now)) < LINGER;
            if !keep {
                *all -= watchers.ring.bytes();
                heard(*subject).for_each(|subject| self.subscriptions.unsubscribe(subject));
            }
            keep
        });
        subjects.shrink_to_fit();
    }

    /// What the newest rows of the watched rooms take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.watched.lock().bytes
    }

    /// How many subjects are subscribed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.watched.lock().subjects.len()
    }

    /// How many places are taken by who waits: one for each subject and partition of a watch.
    #[must_use]
    pub fn sessions(&self) -> usize {
        let watched = self.watched.lock();
        let of_subjects: usize = watched.subjects.values().map(|watchers| watchers.sessions.len()).sum();
        of_subjects + watched.partitions.values().map(Slab::len).sum::<usize>()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Under which subject those are who hear of this one.
fn watched_as(subject: Subject) -> Subject {
    match subject.kind {
        SubjectKind::RoomEphemeral => Subject { kind: SubjectKind::Room, ..subject },
        _ => subject,
    }
}

/// What those hear who watch a subject.
fn heard(subject: Subject) -> impl Iterator<Item = Subject> {
    let ephemeral = Subject { kind: SubjectKind::RoomEphemeral, ..subject };
    std::iter::once(subject).chain((subject.kind == SubjectKind::Room).then_some(ephemeral))
}

fn wake<R>(subject: Subject, watchers: &Watchers<R>) {
    for (_, session) in &watchers.sessions {
        session.wake(|dirty| match subject.kind {
            SubjectKind::Room => dirty.room(subject.id),
            SubjectKind::RoomEphemeral => dirty.ephemeral(subject.id),
            SubjectKind::User => dirty.user = true,
            SubjectKind::Device => dirty.inbox = true,
            SubjectKind::DeviceLists => dirty.device_lists = true,
            // Nobody watches them.
            SubjectKind::Heartbeat | SubjectKind::Digest => {}
        });
    }
}

// === impl Watch ===

impl<R> Watch<R> {
    /// Watches a subject, too; with a room also what is ephemeral in it. Whatever is published once it is [`Watch::settled`] wakes
    /// the session; look at the store afterwards.
    pub fn add(&mut self, subject: Subject) {
        let hash_map::Entry::Vacant(place) = self.subjects.entry(watched_as(subject)) else { return };
        let mut watched = self.interest.watched.lock();
        let watchers = watched.subjects.entry(*place.key()).or_insert_with_key(|subject| {
            heard(*subject).for_each(|subject| self.interest.subscriptions.subscribe(subject));
            Watchers { sessions: Slab::new(), told: Seq::ZERO, ring: Ring::default(), idle_since: None }
        });
        place.insert(watchers.sessions.insert(Arc::clone(&self.session)));
    }

    /// Watches a partition of the user's, too, of which the subjects' news may be lost.
    pub fn add_partition(&mut self, place: MarkPlace) {
        let mut watched = self.interest.watched.lock();
        let at = watched.partitions.entry(place).or_default().insert(Arc::clone(&self.session));
        self.partition = Some((place, at));
    }

    /// Waits until the bus has heard of all subjects that are watched.
    pub async fn settled(&self) {
        self.interest.subscriptions.settled().await;
    }
}

impl<R> Drop for Watch<R> {
    fn drop(&mut self) {
        if planted(Mutation::WatchStays) {
            return;
        }
        let mut watched = self.interest.watched.lock();
        for (subject, place) in &self.subjects {
            if let Some(watchers) = watched.subjects.get_mut(subject) {
                watchers.sessions.try_remove(*place);
            }
        }
        if let Some((place, at)) = self.partition
            && let Some(sessions) = watched.partitions.get_mut(&place)
        {
            sessions.try_remove(at);
            if sessions.is_empty() {
                watched.partitions.remove(&place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use polity_bus::{Bus, LocalBus, News};
    use polity_core::{LogId, TenantId};

    use super::*;

    fn room(n: u8) -> Subject {
        Subject::new(SubjectKind::Room, TenantId::new(1), LogId::new([n; 16]))
    }

    #[tokio::test]
    async fn a_watched_room_wakes_its_watchers_and_keeps_its_rows_for_a_while() {
        let bus = LocalBus::new();
        let (subscriptions, mut receiver) = bus.receiver(8);
        let interest = Interest::<u64>::new(subscriptions);
        let session = Session::new();
        let mut watch = interest.watch(Arc::clone(&session));
        watch.add(room(1));
        watch.add(room(1));
        bus.publish(room(1), bytes::Bytes::new());
        assert!(matches!(receiver.next().await, Some(News::Message(message)) if message.subject == room(1)));
        interest.row(room(1), Seq::new(5), Arc::new(5), 1);
        interest.row(room(2), Seq::new(5), Arc::new(5), 1);
        assert_eq!(session.woken(|| ()).await.1.rooms.as_slice(), [room(1).id]);
        let ephemeral = Subject { kind: SubjectKind::RoomEphemeral, ..room(1) };
        bus.publish(ephemeral, bytes::Bytes::new());
        assert!(matches!(receiver.next().await, Some(News::Message(message)) if message.subject == ephemeral));
        interest.wake(ephemeral);
        assert_eq!(session.woken(|| ()).await.1.ephemeral.as_slice(), [room(1).id]);
        drop(watch);
        interest.wake(room(1));
        interest.sweep(Duration::from_secs(1));
        assert_eq!(interest.back(room(1), Seq::new(5), 1).map(|rows| rows.len()), Some(1));
        interest.sweep(Duration::from_secs(1) + LINGER);
        assert!(interest.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_that_is_told_of_is_waited_for_a_moment() {
        let interest = Interest::<u64>::new(LocalBus::new().receiver(8).0);
        let session = Session::new();
        let mut watch = interest.watch(Arc::clone(&session));
        watch.add(room(1));
        let Subject { tenant, id: log, .. } = room(1);
        let told = |seq| interest.written(&[Entry::Head { tenant, log, seq: Seq::new(seq) }]);
        let woken =
            async |within| tokio::time::timeout(within, session.woken(|| ())).await.map(|(_, dirty)| dirty.rooms);
        let told_and_woken = async {
            told(5);
            assert!(woken(GRACE / 2).await.is_err(), "at once");
            interest.row(room(1), Seq::new(5), Arc::new(5), 1);
            assert_eq!(woken(Duration::ZERO).await.unwrap().as_slice(), [log]);
            assert!(woken(3 * GRACE).await.is_err(), "twice for one row");
            told(6);
            assert_eq!(woken(2 * GRACE).await.unwrap().as_slice(), [log], "the row was lost");
            told(6);
            assert!(woken(3 * GRACE).await.is_err(), "twice for a lost row");
            interest.row(room(1), Seq::new(7), Arc::new(7), 1);
            told(7);
            told(8);
            assert_eq!(woken(Duration::ZERO).await.unwrap().as_slice(), [log]);
            told(9);
            assert_eq!(woken(2 * GRACE).await.unwrap().as_slice(), [log]);
        };
        tokio::select! {
            () = interest.run() => {}
            () = told_and_woken => {}
        }
    }

    #[tokio::test]
    async fn however_many_rooms_are_watched_their_rows_are_bounded() {
        let interest = Interest::<u64>::new(LocalBus::new().receiver(8).0);
        let mut watch = interest.watch(Session::new());
        let rooms: Vec<_> = (0..100).map(room).collect();
        for room in &rooms {
            watch.add(*room);
            for seq in 1..=9 {
                interest.row(*room, Seq::new(seq), Arc::new(seq), 50_000);
            }
        }
        assert!((RINGS - 50_000..=RINGS).contains(&interest.bytes()), "{}", interest.bytes());
        let back = |room: u8| interest.back(rooms[usize::from(room)], Seq::new(9), 2).map(|rows| rows.len());
        assert_eq!((back(0), back(99)), (Some(2), None), "the last ones are read from the store");
        interest.lost();
        assert_eq!(interest.bytes(), 0);
        interest.row(rooms[99], Seq::new(10), Arc::new(10), 50_000);
        drop(watch);
        for s in [0, LINGER.as_secs()] {
            interest.sweep(Duration::from_secs(s));
        }
        assert_eq!((interest.bytes(), interest.is_empty()), (0, true));
    }
}
