//! Takes news from the bus to whoever waits for them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use polity_accounts::changed_user;
use polity_bus::{Bus, Message, News, Receiver, Subject, SubjectKind, Wake, not_understood};
use polity_core::{Clock, Seq, TenantId};
use polity_room_engine::live::{self, Live};
use polity_store::{Store, rooms};
use ruma_common::UserId;
use tokio::sync::mpsc;

use super::Interest;
use crate::{
    ephemeral::{Ephemeral, EphemeralEvent},
    follow::Known,
    read::{ReadError, Rooms, StoredRow},
};

/// How often typing is ended and idle subscriptions are.
const SWEEP: Duration = Duration::from_secs(1);
/// Users whose devices changed and who wait until it is known whom that concerns; with more, everybody looks.
const CHANGED: usize = 1024;
/// For how many of them that is looked up at once.
const LOOKED_UP: usize = 16;

/// The task behind live syncs: one a process.
pub struct Hub {
    /// Who waits.
    pub interest: Arc<Interest<StoredRow>>,
    /// Typing and receipts.
    pub ephemeral: Arc<Ephemeral>,
    /// For whose devices changed.
    pub rooms: Arc<Rooms>,
    /// For whose devices changed.
    pub store: Arc<dyn Store>,
    /// Monotonic time.
    pub clock: Arc<dyn Clock>,
    /// For what others may have missed.
    pub bus: Arc<dyn Bus>,
    /// Takes in what other processes write, if there are any.
    pub known: Option<Arc<Known>>,
}

impl Hub {
    /// Runs until the subscriptions end.
    pub async fn run(self, receiver: Box<dyn Receiver>) {
        let (changes, changed) = mpsc::channel(CHANGED);
        // Looking up whom changed devices concern takes reads of the store, and news of rooms don't wait for those.
        tokio::select! {
            biased;
            () = self.hear(receiver, changes) => {}
            () = self.look_up(changed) => {}
            () = self.interest.run() => {}
        }
    }

    async fn hear(&self, mut receiver: Box<dyn Receiver>, changes: mpsc::Sender<(Subject, Bytes)>) {
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = sweep.tick() => self.sweep(),
                news = receiver.next() => match news {
                    Some(News::Message(message)) => self.take(message, &changes),
                    Some(News::Lost) => self.interest.lost(),
                    None => return,
                },
            }
        }
    }

    async fn look_up(&self, changed: mpsc::Receiver<(Subject, Bytes)>) {
        let changed = stream::unfold(changed, async |mut changed| Some((changed.recv().await?, changed)));
        changed.for_each_concurrent(LOOKED_UP, |(subject, user)| self.devices_changed(subject, user)).await;
    }

    fn take(&self, Message { subject, payload }: Message, changes: &mpsc::Sender<(Subject, Bytes)>) {
        match subject.kind {
            SubjectKind::Room => match live::decode(&payload) {
                Ok(live) => self.rows(subject, live),
                Err(_) => not_understood(subject.kind),
            },
            SubjectKind::RoomEphemeral => {
                let room = (subject.tenant, subject.id);
                match EphemeralEvent::decode(&payload) {
                    Ok(event) => {
                        self.ephemeral.apply(room, event, self.clock.monotonic(), || self.interest.wake(subject));
                    }
                    Err(_) => not_understood(subject.kind),
                }
            }
            SubjectKind::User | SubjectKind::Device => self.woken(subject, &payload),
            SubjectKind::DeviceLists => match Wake::decode(&payload) {
                Some((Wake::Log(seq), row)) => {
                    self.moved(subject, seq);
                    let before = self.interest.told(subject, seq);
                    if before.is_some_and(|before| seq <= before) {
                        // Told once more, as by who loads a log and tells of what others wrote: whom it concerns was woken.
                        return;
                    }
                    // A row in between (or before the first one that is heard) may be told to nobody here any more: nothing else tells of
                    // rows before this one.
                    let missed = before.is_some_and(|before| before.next() < seq);
                    if missed || changes.try_send((subject, Bytes::copy_from_slice(row))).is_err() {
                        self.interest.wake(subject);
                    }
                }
                _ => {
                    not_understood(subject.kind);
                    self.interest.wake(subject);
                }
            },
            // The cluster's own.
            SubjectKind::Heartbeat | SubjectKind::Digest => {}
        }
    }

    fn woken(&self, subject: Subject, payload: &[u8]) {
        match Wake::decode(payload) {
            Some((Wake::Log(seq), _)) => {
                self.moved(subject, seq);
                self.interest.wake_at(subject, seq);
            }
            Some((Wake::Partition(place), _)) => {
                // Sooner than by the digest: whoever is woken reads it.
                if let Some(known) = &self.known {
                    known.marks.moved_at(place);
                }
                self.interest.wake(subject);
            }
            None => {
                not_understood(subject.kind);
                self.interest.wake(subject);
            }
        }
    }

    /// A log has come so far, perhaps by another process.
    fn moved(&self, subject: Subject, seq: Seq) {
        if let Some(known) = &self.known {
            known.heads.moved(subject.tenant, subject.id, seq);
        }
    }

    fn rows(&self, subject: Subject, Live { rows, head }: Live) {
        let Some(last) = rows.last().map(|row| row.seq) else { return };
        if let Err(error) = self.rooms.moved_to(subject.tenant, subject.id, last, &head) {
            tracing::warn!(%error, "a live head can't be read");
        }
        for row in rows {
            let seq = row.seq;
            match StoredRow::from_live(row) {
                Ok(row) => {
                    let bytes = row.size();
                    self.interest.row(subject, seq, Arc::new(row), bytes);
                }
                Err(error) => tracing::warn!(%error, "a live row can't be read"),
            }
        }
    }

    /// Wakes whoever shares a room with the user whose devices changed.
    async fn devices_changed(&self, subject: Subject, payload: Bytes) {
        let Some(user_id) = changed_user(&payload) else {
            // Anybody's.
            not_understood(subject.kind);
            return self.interest.wake(subject);
        };
        match self.rooms_of(subject.tenant, &user_id).await {
            Ok(rooms) => self.interest.wake_device_lists(rooms),
            Err(error) => {
                // Perhaps anybody, who is told of that row by nothing else.
                tracing::warn!(%error, "whom changed devices concern can't be read");
                return self.interest.wake(subject);
            }
        }
        // The user's own other devices.
        let own = crate::user_log(subject.tenant, &user_id);
        self.interest.wake(Subject::new(SubjectKind::User, subject.tenant, own));
    }

    async fn rooms_of(&self, tenant: TenantId, user_id: &UserId) -> Result<Vec<Subject>, ReadError> {
        let mut subjects = Vec::new();
        let memberships = rooms::memberships(&*self.store, tenant, user_id).await?;
        for (room_id, _) in memberships.iter().filter(|(_, row)| row.membership == "join") {
            if let Some(key) = self.rooms.key(tenant, room_id).await? {
                subjects.push(Subject::new(SubjectKind::Room, tenant, key.log));
            }
        }
        Ok(subjects)
    }

    fn sweep(&self) {
        let now = self.clock.monotonic();
        self.interest.sweep(now);
        for ((tenant, log), event) in self.ephemeral.repeats(now) {
            self.bus.publish(Subject::new(SubjectKind::RoomEphemeral, tenant, log), event.encode());
        }
        if self.ephemeral.anybody_types() {
            self.ephemeral.expire(now, |(tenant, log)| {
                self.interest.wake(Subject::new(SubjectKind::RoomEphemeral, tenant, log));
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use polity_bus::LocalBus;
    use polity_cluster::digest::Writers;
    use polity_core::{LogId, SystemClock, SystemRandom, tasks};
    use polity_log::Names;
    use polity_store::{Bounds, Consistency, Page, StoreError, Table, Values, Wrap};
    use polity_store_local::LocalStore;

    use super::*;
    use crate::{
        heads::HeadMap,
        live::{Dirty, Session, Watch},
    };

    /// A store that never answers what is asked of more than one row, or that it can't.
    struct Hangs {
        inner: Arc<LocalStore>,
        refuses: bool,
    }

    #[async_trait]
    impl Wrap for Hangs {
        fn inner(&self) -> &dyn Store {
            &*self.inner
        }

        async fn on_scan(
            &self,
            _: &'static Table,
            _: Values,
            _: Bounds,
            _: usize,
            _: Consistency,
        ) -> Result<Page, StoreError> {
            if self.refuses { Err(StoreError::Unavailable("a test's".into())) } else { std::future::pending().await }
        }
    }

    fn subject(kind: SubjectKind, n: u8) -> Subject {
        Subject::new(kind, TenantId::new(1), LogId::new([n; 16]))
    }

    /// Somebody who watches a room and the changes of devices, on such a store.
    struct Waits {
        bus: Arc<dyn Bus>,
        session: Arc<Session>,
        _watch: Watch<StoredRow>,
    }

    impl Waits {
        /// Something was published that says that devices of a user changed.
        fn changed(&self, seq: u64) {
            let change = [&Wake::Log(Seq::new(seq)).encode()[..], &[1, 0], b"@u:t.test"].concat();
            self.bus.publish(subject(SubjectKind::DeviceLists, 2), change.into());
        }

        fn types(&self) {
            let event = EphemeralEvent::Typing { user_id: "@u:t.test".try_into().unwrap(), timeout_ms: 9_000 };
            self.bus.publish(subject(SubjectKind::RoomEphemeral, 1), event.encode());
        }

        async fn woken(&self) -> Dirty {
            tokio::time::timeout(Duration::from_secs(5), self.session.woken(|| ())).await.unwrap().1
        }
    }

    fn waits(refuses: bool) -> Waits {
        let (clock, random): (Arc<dyn Clock>, _) = (Arc::new(SystemClock::new()), Arc::new(SystemRandom));
        let inner = LocalStore::memory(Arc::clone(&clock), &*random).unwrap();
        let store: Arc<dyn Store> = Arc::new(Hangs { inner, refuses });
        let bus: Arc<dyn Bus> = Arc::new(LocalBus::new());
        let (subscriptions, receiver) = bus.receiver(4 * CHANGED);
        let interest = Interest::new(subscriptions);
        let session = Session::new();
        let mut watch = interest.watch(Arc::clone(&session));
        watch.add(subject(SubjectKind::Room, 1));
        watch.add(subject(SubjectKind::DeviceLists, 2));
        let (names, heads) = (Names::new(Arc::clone(&store), random, "room"), Arc::new(HeadMap::new(100, true)));
        let (names, none) = (Arc::new(names), Writers::none());
        let rooms = Rooms::new(Arc::clone(&store), names, heads, Arc::clone(&interest), &none, 1 << 20);
        let (ephemeral, rooms) = (Arc::new(Ephemeral::new(1)), Arc::new(rooms));
        let hub = Hub { interest, ephemeral, rooms, store, clock, bus: Arc::clone(&bus), known: None };
        tasks::spawn(hub.run(receiver));
        Waits { bus, session, _watch: watch }
    }

    fn somebody_types() -> Dirty {
        Dirty { ephemeral: [subject(SubjectKind::Room, 1).id].into_iter().collect(), ..Dirty::default() }
    }

    fn devices() -> Dirty {
        Dirty { device_lists: true, ..Dirty::default() }
    }

    #[tokio::test]
    async fn whom_changed_devices_concern_is_looked_up_while_other_news_go_on() {
        let waits = waits(false);
        waits.changed(1);
        waits.types();
        assert_eq!(waits.woken().await, somebody_types());
        // Too many for whom that isn't known yet: everybody looks.
        for seq in 2..=(CHANGED + 2 * LOOKED_UP) as u64 {
            waits.changed(seq);
        }
        assert_eq!(waits.woken().await, devices());
    }

    #[tokio::test]
    async fn a_change_of_devices_of_which_nothing_was_heard_is_looked_at_by_everybody_with_the_next_one() {
        let waits = waits(false);
        // One after the other, and one that is told again.
        for seq in [1, 2, 3, 2] {
            waits.changed(seq);
        }
        waits.types();
        assert_eq!(waits.woken().await, somebody_types());
        waits.changed(5);
        assert_eq!(waits.woken().await, devices());
    }

    #[tokio::test]
    async fn where_it_cannot_be_read_whom_changed_devices_concern_everybody_looks() {
        let waits = waits(true);
        waits.changed(1);
        assert_eq!(waits.woken().await, devices());
    }
}
