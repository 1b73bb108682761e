//! Rows that one instance has read and told of before their writer knows that they stand, and so before the other instance can hear of
//! them; and what happens while an instance makes an answer.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use polity_store::{Bounds, Cas, Change, Condition, Consistency, Page, Store, StoreError, Table, Values, Wrap, schema};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::world::{World, said};

/// A store that holds back what concerns one table: answers to conditional writes (the rows stand, and whoever wrote them doesn't
/// know), and reads of several rows, before they are made.
pub(crate) struct HeldStore {
    inner: Arc<dyn Store>,
    /// The number of the table.
    held: watch::Sender<Option<u8>>,
    /// How much was held back so far.
    waiting: watch::Sender<usize>,
    /// The number of a table, and how many of the next answers to conditional writes on it get lost.
    lost: Mutex<(u8, usize)>,
}

impl HeldStore {
    pub(crate) fn of(inner: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { inner, held: watch::Sender::new(None), waiting: watch::Sender::new(0), lost: Mutex::default() })
    }

    /// Holds back what concerns this table from now on, and nothing else.
    fn hold(&self, table: Option<&'static Table>) {
        self.held.send_replace(table.map(|table| table.number));
    }

    /// So many of the next answers to conditional writes on this table get lost.
    pub(crate) fn lose(&self, table: &'static Table, answers: usize) {
        *self.lost.lock() = (table.number, answers);
    }

    fn is_lost(&self, table: &'static Table) -> bool {
        let mut lost = self.lost.lock();
        let is_lost = lost.0 == table.number && lost.1 > 0;
        lost.1 -= usize::from(is_lost);
        is_lost
    }

    /// Waits until something is held back.
    async fn one_waits(&self) {
        self.waiting.subscribe().wait_for(|count| *count > 0).await.unwrap();
    }

    async fn wait(&self, table: &'static Table) {
        let mut held = self.held.subscribe();
        if *held.borrow() == Some(table.number) {
            self.waiting.send_modify(|count| *count += 1);
            held.wait_for(|held| *held != Some(table.number)).await.unwrap();
        }
    }
}

#[async_trait]
impl Wrap for HeldStore {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    async fn on_cas(
        &self,
        table: &'static Table,
        partition: Values,
        condition: Condition,
        changes: Vec<Change>,
    ) -> Result<Cas, StoreError> {
        let answer = self.inner.cas(table, partition, condition, changes).await;
        self.wait(table).await;
        if self.is_lost(table) { Err(StoreError::Unknown("the answer is lost".to_owned())) } else { answer }
    }

    async fn on_scan(
        &self,
        table: &'static Table,
        partition: Values,
        bounds: Bounds,
        limit: usize,
        consistency: Consistency,
    ) -> Result<Page, StoreError> {
        self.wait(table).await;
        self.inner.scan(table, partition, bounds, limit, consistency).await
    }
}

#[tokio::test]
async fn a_token_never_goes_back_where_a_row_is_unheard_of() {
    let world = World::of(2).await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let room = alice.create().await;
    bob.call("POST", &format!("/join/{room}"), json!({})).await;
    // Both instances have the room's head in memory.
    for at in [0, 1, 0, 1] {
        bob.sync_at_next(at, 0).await;
    }
    world.rooms_store.hold(Some(&schema::LOG));
    let sends = async {
        let path = format!("/rooms/{room}/send/m.room.message/m");
        assert_eq!(alice.at(0, "PUT", &path, json!({"msgtype": "m.text", "body": "m"})).await.0, 200);
    };
    let syncs = async {
        world.rooms_store.one_waits().await;
        // Access is decided by a head that is read: from now on this instance knows of the row, and tells it.
        bob.at(0, "GET", &format!("/rooms/{room}/messages?dir=b&limit=1"), Value::Null).await;
        let mut told = said(&bob.sync_at_next(0, 0).await, &room);
        assert_eq!(told, ["m"], "told by an instance that has read it");
        told.extend(said(&bob.sync_at_next(1, 0).await, &room));
        world.rooms_store.hold(None);
        told
    };
    let ((), mut told) = tokio::join!(sends, syncs);
    for at in [1, 0] {
        told.extend(said(&bob.sync_at_next(at, 0).await, &room));
    }
    assert_eq!(told, ["m"], "told once, at whichever instance");
}

#[tokio::test]
async fn who_is_in_a_room_before_that_is_written_elsewhere_shares_its_devices() {
    let world = World::of(2).await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let encryption = json!({"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}});
    let body = json!({"preset": "public_chat", "initial_state": [encryption]});
    let room = alice.call("POST", "/createRoom", body).await["room_id"].as_str().unwrap().to_owned();
    alice.sync_at_next(0, 0).await;
    world.rooms_store.hold(Some(&schema::LOG));
    let joins = async { assert_eq!(bob.at(0, "POST", &format!("/join/{room}"), json!({})).await.0, 200) };
    let syncs = async {
        world.rooms_store.one_waits().await;
        alice.at(0, "GET", &format!("/rooms/{room}/messages?dir=b&limit=1"), Value::Null).await;
        let answer = alice.sync_at_next(0, 0).await;
        world.rooms_store.hold(None);
        answer
    };
    let ((), answer) = tokio::join!(joins, syncs);
    assert_ne!(answer["rooms"]["join"][&room], Value::Null, "the join is told: {answer}");
    assert_eq!(answer["device_lists"]["changed"], json!([bob.user_id]), "{answer}");
}

#[tokio::test]
async fn what_is_redacted_while_an_answer_is_made_is_counted_in_that_answer() {
    let world = World::of(2).await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    let room = alice.create().await;
    bob.call("POST", &format!("/join/{room}"), json!({})).await;
    let [one, other] = [alice.say(&room, "one").await, alice.say(&room, "other").await];
    let redact = |event: String, txn: &'static str| {
        let (alice, path) = (&alice, format!("/rooms/{room}/redact/{event}/{txn}"));
        async move { assert_eq!(alice.at(1, "PUT", &path, json!({})).await.0, 200) }
    };
    // So that redactions are looked for at all.
    redact(one, "r1").await;
    let told = |answer: &Value| {
        let joined = &answer["rooms"]["join"][&room];
        let events = joined["timeline"]["events"].as_array().unwrap();
        let redactions = events.iter().filter(|event| event["type"] == "m.room.redaction").count();
        (redactions, joined["unread_notifications"]["notification_count"].as_u64().unwrap())
    };
    world.clients_store.hold(Some(&schema::REDACTIONS));
    let redacts = async {
        world.clients_store.one_waits().await;
        redact(other, "r2").await;
        world.clients_store.hold(None);
    };
    let (answer, ()) = tokio::join!(bob.sync_at_next(0, 0), redacts);
    assert_eq!(told(&answer), (1, 1), "as it was when the first redaction was the last event");
    assert_eq!(told(&bob.sync_at_next(0, 0).await), (1, 0));
}
