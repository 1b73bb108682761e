//! A store that refuses something in the middle of what takes several steps.

use std::collections::BTreeMap;

use async_trait::async_trait;
use parking_lot::Mutex;
use polity_store::{Cas, Change, Condition, Durability, StoreError, Table, Values, Wrap, Write, schema};

use super::*;

/// Something that is asked of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Cas(u8),
    Put(u8),
    Drop(u8),
}

/// A store that refuses what is named here, as often as is said, once so much of the kind was done.
struct Unwilling {
    store: Arc<dyn Store>,
    /// How often each is done before it is refused, and how often it is refused then.
    refuses: Mutex<BTreeMap<Step, (usize, usize)>>,
    /// How often each partition of `MEMBERSHIPS` was written.
    told: Mutex<BTreeMap<Values, usize>>,
}

#[async_trait]
impl Wrap for Unwilling {
    fn inner(&self) -> &dyn Store {
        &*self.store
    }

    async fn on_cas(
        &self,
        table: &'static Table,
        partition: Values,
        condition: Condition,
        changes: Vec<Change>,
    ) -> Result<Cas, StoreError> {
        self.asked(Step::Cas(table.number))?;
        self.store.cas(table, partition, condition, changes).await
    }

    async fn on_put(&self, writes: Vec<Write>, durability: Durability) -> Result<(), StoreError> {
        for write in &writes {
            self.asked(Step::Put(write.table.number))?;
        }
        for write in writes.iter().filter(|write| write.table.number == schema::MEMBERSHIPS.number) {
            *self.told.lock().entry(write.partition.clone()).or_default() += 1;
        }
        self.store.put(writes, durability).await
    }

    async fn on_drop_partition(&self, table: &'static Table, partition: Values) -> Result<(), StoreError> {
        self.asked(Step::Drop(table.number))?;
        self.store.drop_partition(table, partition).await
    }
}

impl Unwilling {
    fn new() -> Arc<Self> {
        let store: Arc<dyn Store> = LocalStore::memory(Arc::new(ManualClock::new(1_000_000)), &SystemRandom).unwrap();
        Arc::new(Self { store, refuses: Mutex::default(), told: Mutex::default() })
    }

    /// From now on `step` is done so often, and then refused so often.
    fn refuse(&self, step: Step, after: usize, times: usize) {
        self.refuses.lock().insert(step, (after, times));
    }

    fn asked(&self, step: Step) -> Result<(), StoreError> {
        match self.refuses.lock().get_mut(&step) {
            Some((after @ 1.., _)) => *after -= 1,
            Some((0, times @ 1..)) => {
                *times -= 1;
                return Err(StoreError::Unavailable("not now".to_owned()));
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether it has refused all that it was to refuse.
    fn is_content(&self) -> bool {
        self.refuses.lock().values().all(|left| *left == (0, 0))
    }
}

#[tokio::test]
async fn a_purge_goes_on_where_it_was_refused_and_tells_everybody_once() {
    let unwilling = Unwilling::new();
    let mut world = process(Arc::clone(&unwilling) as _, 1).await;
    let room = world.create("12", Preset::PublicChat).await;
    let users: Vec<String> = (0..20).map(|n| format!("@u{n}:t7.test")).collect();
    for user in &users {
        world.member(user, &room, user, "join").await.unwrap();
    }
    for n in 0..10 {
        world.send(ALICE, &room, &n.to_string()).await.unwrap();
    }
    unwilling.told.lock().clear();
    unwilling.refuse(Step::Put(schema::MEMBERSHIPS.number), 0, 1);
    // While rows go: some have gone.
    unwilling.refuse(Step::Drop(schema::TRANSACTIONS.number), 3, 1);
    unwilling.refuse(Step::Drop(schema::REDACTIONS.number), 0, 1);
    unwilling.refuse(Step::Cas(schema::LOG.number), 1, 1);
    world.purge(&room).await.expect("however often it takes");
    assert!(unwilling.is_content(), "{:?}", unwilling.refuses.lock());
    let told = unwilling.told.lock().clone();
    assert_eq!(told.len(), users.len() + 1, "all, and who made the room");
    assert!(told.values().all(|times| *times == 1), "{told:?}");
    assert_eq!(world.membership(&users[7], &room).await.unwrap().0, "leave");
}

#[tokio::test]
async fn an_alias_that_cannot_be_given_back_is_not_asked_for_elsewhere() {
    for given_back in [true, false] {
        let unwilling = Unwilling::new();
        let mut world = process(Arc::clone(&unwilling) as _, 1).await;
        let other = Member::new(IncarnationId::new([2; 16]), "test", "2", "");
        let other = Registry::join(Arc::clone(&world.store), &other).await.unwrap();
        // Whoever is closed begins no room.
        other.close(IncarnationId::new([1; 16])).await.unwrap();
        if !given_back {
            // Reserved it can be.
            unwilling.refuse(Step::Cas(schema::ALIASES.number), 1, 1);
        }
        let request = CreateRoomRequest {
            requester: who(ALICE),
            room_version: "12".into(),
            preset: Preset::PublicChat.into(),
            alias: Some("#a:t7.test".into()),
            ..Default::default()
        };
        let status = world.client.create_room(request).await.unwrap_err();
        assert!(unwilling.is_content(), "it was to be given back");
        // Somebody else would find it taken.
        assert_eq!(status.metadata().contains_key(route::NOT_STARTED), given_back, "{status:?}");
    }
}
