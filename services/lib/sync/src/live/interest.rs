//! Who waits for what.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use polity_bus::{Subject, SubjectKind, Subscriptions};
use polity_cluster::digest::Entry;
use polity_core::Seq;
use polity_store::MarkPlace;

use super::{Ring, Session};

/// How long a subject stays subscribed after the last sync that waited for it: clients come back at once.
const LINGER: Duration = Duration::from_secs(90);
/// What is woken when a log is said to have moved.
const LOGS: [SubjectKind; 4] = [SubjectKind::Room, SubjectKind::User, SubjectKind::Device, SubjectKind::DeviceLists];

/// The subjects that syncs of this process wait for, and the rooms' newest rows. `R` is a row.
pub struct Interest<R> {
    subscriptions: Box<dyn Subscriptions>,
    watched: Mutex<Watched<R>>,
}

struct Watched<R> {
    subjects: HashMap<Subject, Watchers<R>>,
    /// By the partition that they look at and no log tells of.
    partitions: HashMap<MarkPlace, Sessions>,
    next_watch: u64,
}

/// By the number of their watch: one of very many ends without a search.
type Sessions = HashMap<u64, Arc<Session>>;

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
    id: u64,
    session: Arc<Session>,
    subjects: HashSet<Subject>,
    partition: Option<MarkPlace>,
}

// === impl Interest ===

impl<R> Interest<R> {
    /// Nobody waits for anything yet.
    #[must_use]
    pub fn new(subscriptions: Box<dyn Subscriptions>) -> Arc<Self> {
        let watched = Watched { subjects: HashMap::new(), partitions: HashMap::new(), next_watch: 0 };
        Arc::new(Self { subscriptions, watched: Mutex::new(watched) })
    }

    /// Begins to watch for `session`, nothing yet.
    #[must_use]
    pub fn watch(self: &Arc<Self>, session: Arc<Session>) -> Watch<R> {
        let mut watched = self.watched.lock();
        watched.next_watch += 1;
        let (id, subjects) = (watched.next_watch, HashSet::new());
        Watch { interest: Arc::clone(self), id, session, subjects, partition: None }
    }

    /// Takes a new row of a room in and wakes whoever watches it.
    pub fn row(&self, subject: Subject, seq: Seq, row: Arc<R>) {
        let mut watched = self.watched.lock();
        if let Some(watchers) = watched.subjects.get_mut(&subject) {
            watchers.ring.push(seq, row);
            watchers.told = watchers.told.max(seq);
            wake(subject, watchers);
        }
    }

    /// Wakes whoever watches a subject.
    pub fn wake(&self, subject: Subject) {
        if let Some(watchers) = self.watched.lock().subjects.get(&subject) {
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

    /// Wakes whoever watches what was written, unless he was woken of it already.
    pub fn written(&self, entries: &[Entry]) {
        let mut watched = self.watched.lock();
        let Watched { subjects, partitions, .. } = &mut *watched;
        for entry in entries {
            match *entry {
                Entry::Head { tenant, log, seq } => {
                    for subject in LOGS.map(|kind| Subject::new(kind, tenant, log)) {
                        if let Some(watchers) = subjects.get_mut(&subject).filter(|watchers| watchers.told < seq) {
                            watchers.told = seq;
                            wake(subject, watchers);
                        }
                    }
                }
                Entry::Mark(place) => {
                    for session in partitions.get(&place).into_iter().flat_map(HashMap::values) {
                        session.wake(|dirty| dirty.user = true);
                    }
                }
            }
        }
    }

    /// Wakes whoever watches any of these rooms because devices of one of their members changed.
    pub fn wake_device_lists(&self, rooms: impl IntoIterator<Item = Subject>) {
        let watched = self.watched.lock();
        for watchers in rooms.into_iter().filter_map(|room| watched.subjects.get(&room)) {
            for session in watchers.sessions.values() {
                session.wake(|dirty| dirty.device_lists = true);
            }
        }
    }

    /// Messages were lost: everybody looks everywhere, and no ring is trusted.
    pub fn lost(&self) {
        for watchers in self.watched.lock().subjects.values_mut() {
            watchers.ring = Ring::default();
            for session in watchers.sessions.values() {
                session.wake(|dirty| dirty.all = true);
            }
        }
    }

    /// The rows of a room after `seq`, if all of them are in memory.
    #[must_use]
    pub fn rows_after(&self, subject: Subject, seq: Seq) -> Option<Vec<(Seq, Arc<R>)>> {
        self.watched.lock().subjects.get(&subject)?.ring.after(seq)
    }

    /// Ends the subscriptions that nobody has used for a while. `now` is monotonic.
    pub fn sweep(&self, now: Duration) {
        let mut watched = self.watched.lock();
        watched.subjects.retain(|subject, watchers| {
            if !watchers.sessions.is_empty() {
                watchers.idle_since = None;
                return true;
            }
            let keep = now.saturating_sub(*watchers.idle_since.get_or_insert(now)) < LINGER;
            if !keep {
                self.subscriptions.unsubscribe(*subject);
            }
            keep
        });
        watched.subjects.shrink_to_fit();
    }

    /// How many subjects are subscribed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.watched.lock().subjects.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn wake<R>(subject: Subject, watchers: &Watchers<R>) {
    for session in watchers.sessions.values() {
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
    /// Watches a subject, too. Whatever is published once it is [`Watch::settled`] wakes the session; look at the store afterwards.
    pub fn add(&mut self, subject: Subject) {
        if !self.subjects.insert(subject) {
            return;
        }
        let mut watched = self.interest.watched.lock();
        let watchers = watched.subjects.entry(subject).or_insert_with(|| {
            self.interest.subscriptions.subscribe(subject);
            Watchers { sessions: HashMap::new(), told: Seq::ZERO, ring: Ring::default(), idle_since: None }
        });
        watchers.sessions.insert(self.id, Arc::clone(&self.session));
    }

    /// Watches a partition of the user's, too, of which the subjects' news may be lost.
    pub fn add_partition(&mut self, place: MarkPlace) {
        let mut watched = self.interest.watched.lock();
        watched.partitions.entry(place).or_default().insert(self.id, Arc::clone(&self.session));
        self.partition = Some(place);
    }

    /// Waits until the bus has heard of all subjects that are watched.
    pub async fn settled(&self) {
        self.interest.subscriptions.settled().await;
    }
}

impl<R> Drop for Watch<R> {
    fn drop(&mut self) {
        let mut watched = self.interest.watched.lock();
        for subject in &self.subjects {
            if let Some(watchers) = watched.subjects.get_mut(subject) {
                watchers.sessions.remove(&self.id);
            }
        }
        if let Some(place) = self.partition
            && let Some(sessions) = watched.partitions.get_mut(&place)
        {
            sessions.remove(&self.id);
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
        interest.row(room(1), Seq::new(5), Arc::new(5));
        interest.row(room(2), Seq::new(5), Arc::new(5));
        assert_eq!(session.woken(|| ()).await.1.rooms.as_slice(), [room(1).id]);
        drop(watch);
        interest.sweep(Duration::from_secs(1));
        assert_eq!(interest.rows_after(room(1), Seq::new(4)).map(|rows| rows.len()), Some(1));
        interest.sweep(Duration::from_secs(1) + LINGER);
        assert!(interest.is_empty());
    }
}
