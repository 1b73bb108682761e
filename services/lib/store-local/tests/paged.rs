//! What is longer than a page is read whole.

#![expect(clippy::unwrap_used, reason = "a test's own parts: what isn't there ends it")]

use std::sync::Arc;

use polity_core::{Life, ManualClock, Position, Seq, SystemRandom, TenantId};
use polity_store::{
    Durability, Store, Write,
    rooms::{AliasUse, aliases_of, claim_alias, listed_rooms, put_listing},
    users::{own_receipts, put_own_receipt},
};
use polity_store_local::LocalStore;
use ruma_common::{OwnedRoomAliasId, OwnedRoomId, event_id, room_id, user_id};

const TENANT: TenantId = TenantId::new(7);

fn store() -> Arc<dyn Store> {
    LocalStore::memory(Arc::new(ManualClock::new(1_000_000)), &SystemRandom).unwrap()
}

fn at(seq: u64) -> Position {
    Position::new(Life::FIRST, Seq::new(seq))
}

#[tokio::test]
async fn rooms_that_were_listed_once_hide_none_that_are() {
    let store = store();
    // Of names whose characters all stand twice the shards are the same.
    let name = |text: &str| text.chars().flat_map(|c| [c, c]).collect::<String>();
    let room = |text: &str| OwnedRoomId::try_from(format!("!{}:b", name(text))).unwrap();
    let once: Vec<_> = (0..6000).map(|n| room(&format!("{n:04}"))).collect();
    let mut all = vec![room("z"), once[3000].clone()];
    for (rooms, listed, seq) in [(&once, false, 1), (&all, true, 2)] {
        let writes: Vec<Write> = rooms.iter().map(|room| put_listing(TENANT, room, listed, at(seq))).collect();
        for some in writes.chunks(500) {
            store.put(some.to_vec(), Durability::Rebuildable).await.unwrap();
        }
    }
    let mut found = listed_rooms(&*store, TENANT).await.unwrap();
    found.sort();
    all.sort();
    assert_eq!(found, all);
}

#[tokio::test]
async fn a_room_may_have_many_aliases() {
    let (store, room, user) = (store(), room_id!("!a:b"), user_id!("@a:b"));
    let names: Vec<_> = (0..1500).map(|n| OwnedRoomAliasId::try_from(format!("#{n:04}:b")).unwrap()).collect();
    for name in &names {
        let usage = (AliasUse::InUse, 1);
        assert!(claim_alias(&*store, TENANT, name, None, (room, user), usage).await.unwrap().is_some());
    }
    assert_eq!(aliases_of(&*store, TENANT, room).await.unwrap(), names);
}

#[tokio::test]
async fn no_number_of_threads_hides_what_is_read_of_the_main_timeline() {
    let (store, room, user) = (store(), room_id!("!a:b"), user_id!("@a:b"));
    let put = async |thread: &str, seq| {
        let of = ("m.read", thread);
        put_own_receipt(&*store, TENANT, user, room, of, (event_id!("$e"), at(seq))).await.unwrap();
    };
    put("", 1).await;
    put("main", 2).await;
    let threads = async || {
        let receipts = own_receipts(&*store, TENANT, user, room).await.unwrap();
        let of = |name: &str| receipts.iter().filter(|receipt| receipt.thread == name).map(|r| r.position).collect();
        let (all, main): (Vec<_>, Vec<_>) = (of(""), of("main"));
        assert_eq!((all, main), (vec![at(1)], vec![at(2)]), "with {}", receipts.len());
        receipts.len() - 2
    };
    for (from, to) in [(0, 0), (0, 1500), (1500, 9_997), (9_997, 9_998), (9_998, 9_999), (9_999, 10_100)] {
        for n in from..to {
            put(&format!("$root{n:06}"), 3).await;
        }
        // Rows are read up to a limit, and the main timeline beside them.
        assert_eq!(threads().await, to.min(9_999));
    }
}
