//! Whose devices a client is told to look up, and whose no longer: by a sync, and the same by `GET /keys/changes`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::world::{World, world};

const ADMIN: &str = "@admin:t.test";
const BOB: &str = "@bob:t.test";
const CAROL: &str = "@carol:t.test";
const DAVE: &str = "@dave:t.test";

/// A client that follows devices.
struct Follower<'a> {
    world: &'a World,
    user: &'static str,
    filter: Value,
    token: String,
}

impl<'a> Follower<'a> {
    async fn new(world: &'a World, user: &'static str, filter: Value) -> Self {
        let answer = world.sync(&world.request(user, None, filter.clone(), false)).await;
        assert!(answer.get("device_lists").is_none(), "a first sync tells of nobody: {answer}");
        Self { world, user, filter, token: answer["next_batch"].as_str().unwrap().to_owned() }
    }

    /// Who changed and who left since the last call.
    async fn told(&mut self) -> (BTreeSet<String>, BTreeSet<String>) {
        let Self { world, user, filter, token } = self;
        let answer = world.sync(&world.request(user, Some(token.clone()), filter.clone(), false)).await;
        let next = answer["next_batch"].as_str().unwrap().to_owned();
        let users = |name: &str| -> BTreeSet<String> {
            let users = answer["device_lists"][name].as_array().into_iter().flatten();
            users.map(|user| user.as_str().unwrap().to_owned()).collect()
        };
        let told = (users("changed"), users("left"));
        let changes = world.engine.key_changes(world.viewer(user), token.clone(), &next).await.unwrap();
        let same =
            |users: Vec<ruma_common::OwnedUserId>| users.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        assert_eq!((same(changes.changed), same(changes.left)), told, "/keys/changes says the same");
        *token = next;
        told
    }
}

fn set(users: &[&str]) -> BTreeSet<String> {
    users.iter().map(|user| (*user).to_owned()).collect()
}

async fn encrypt(world: &World, room: &str) {
    let content = json!({"algorithm": "m.megolm.v1.aes-sha2"});
    world.send(ADMIN, room, ("m.room.encryption", Some("")), content, None).await;
}

/// A public room of the administrator's with these users.
async fn room(world: &World, users: &[&str], encrypted: bool) -> String {
    let room = world.create(ADMIN, "public_chat").await;
    if encrypted {
        encrypt(world, &room).await;
    }
    for user in users {
        world.member(user, &room, user, "join", None).await;
    }
    room
}

#[tokio::test]
async fn who_joins_an_encrypted_room_is_told_all_members_whatever_the_filter_and_the_members_are_told_him() {
    let filters = [
        json!({}),
        json!({"room": {"timeline": {"limit": 1}, "state": {"lazy_load_members": true}}}),
        json!({"room": {"timeline": {"limit": 1, "types": []}, "state": {"types": []}}}),
    ];
    for filter in filters {
        let world = world().await;
        let room = room(&world, &[BOB, CAROL], true).await;
        let mut dave = Follower::new(&world, DAVE, filter.clone()).await;
        let mut bob = Follower::new(&world, BOB, filter.clone()).await;
        world.member(DAVE, &room, DAVE, "join", None).await;
        for n in 0..30 {
            world.send(ADMIN, &room, ("m.room.message", None), json!({"body": n.to_string()}), None).await;
        }
        assert_eq!(dave.told().await, (set(&[ADMIN, BOB, CAROL]), set(&[])), "{filter}");
        assert_eq!(bob.told().await, (set(&[DAVE]), set(&[])), "{filter}");
        assert_eq!(dave.told().await, (set(&[]), set(&[])), "once");
        // Away and back between two syncs: keys may have changed in between, and messages been missed.
        world.member(CAROL, &room, CAROL, "leave", None).await;
        assert_eq!(bob.told().await, (set(&[]), set(&[CAROL])), "{filter}");
    }
}

#[tokio::test]
async fn encryption_that_is_switched_on_tells_everybody_of_everybody() {
    let world = world().await;
    let room = room(&world, &[BOB, CAROL], false).await;
    let mut bob = Follower::new(&world, BOB, json!({"room": {"timeline": {"limit": 1}}})).await;
    world.member(DAVE, &room, DAVE, "join", None).await;
    assert_eq!(bob.told().await, (set(&[]), set(&[])), "nobody's keys matter in a room that isn't encrypted");
    encrypt(&world, &room).await;
    for n in 0..5 {
        world.send(ADMIN, &room, ("m.room.message", None), json!({"body": n.to_string()}), None).await;
    }
    assert_eq!(bob.told().await, (set(&[ADMIN, CAROL, DAVE]), set(&[])));
}

#[tokio::test]
async fn who_leaves_is_told_as_gone_only_with_the_last_room() {
    let world = world().await;
    let (one, two) = (room(&world, &[BOB, CAROL], true).await, room(&world, &[BOB], true).await);
    let plain = room(&world, &[BOB, CAROL], false).await;
    let mut bob = Follower::new(&world, BOB, json!({})).await;
    let mut admin = Follower::new(&world, ADMIN, json!({})).await;
    world.member(BOB, &one, BOB, "leave", None).await;
    assert_eq!(admin.told().await, (set(&[]), set(&[])), "they share another one");
    assert_eq!(bob.told().await, (set(&[]), set(&[CAROL])), "the plain room doesn't count");
    let narrow = json!({"room": {"rooms": [one]}});
    world.member(BOB, &one, BOB, "join", None).await;
    let answer = world.sync(&world.request(ADMIN, None, narrow.clone(), false)).await;
    let since = answer["next_batch"].as_str().unwrap().to_owned();
    world.member(BOB, &one, BOB, "leave", None).await;
    let answer = world.sync(&world.request(ADMIN, Some(since), narrow, false)).await;
    assert!(answer.get("device_lists").is_none(), "a room that the filter keeps back is shared nevertheless: {answer}");
    admin.told().await;
    bob.told().await;
    world.member(ADMIN, &two, BOB, "kick", None).await;
    assert_eq!(admin.told().await, (set(&[]), set(&[BOB])));
    assert_eq!(bob.told().await, (set(&[]), set(&[ADMIN])));
    world.member(BOB, &plain, BOB, "leave", None).await;
    assert_eq!(admin.told().await, (set(&[]), set(&[])));
}

#[tokio::test]
async fn who_left_and_came_back_between_two_syncs_may_have_other_devices() {
    let world = world().await;
    for user in [ADMIN, BOB, CAROL] {
        world.register(user).await;
    }
    let room = room(&world, &[BOB, CAROL], true).await;
    let mut bob = Follower::new(&world, BOB, json!({})).await;
    let mut admin = Follower::new(&world, ADMIN, json!({})).await;
    for how in ["leave", "join"] {
        world.member(CAROL, &room, CAROL, how, None).await;
    }
    for follower in [&mut bob, &mut admin] {
        assert_eq!(follower.told().await, (set(&[CAROL]), set(&[])), "nobody knows what was in between");
    }
    world.member(CAROL, &room, CAROL, "leave", None).await;
    let keys = json!({"keys": {}}).to_string().into_bytes();
    world.engine.accounts.set_device_keys(world.viewer(CAROL).device(), keys).await.unwrap();
    // To who looks meanwhile the change is nothing, and the member is gone.
    assert_eq!(admin.told().await, (set(&[]), set(&[CAROL])));
    world.member(CAROL, &room, CAROL, "join", None).await;
    assert_eq!(bob.told().await, (set(&[CAROL]), set(&[])));
    assert_eq!(admin.told().await, (set(&[CAROL]), set(&[])));
    // Another name is no other stretch in the room.
    let name = json!({"membership": "join", "displayname": "another name"});
    world.send(CAROL, &room, ("m.room.member", Some(CAROL)), name, None).await;
    assert_eq!(bob.told().await, (set(&[]), set(&[])));
    // Who is gone when one comes back oneself, or leaves, was there when one left, or looked last.
    world.member(CAROL, &room, CAROL, "leave", None).await;
    for how in ["leave", "join"] {
        world.member(BOB, &room, BOB, how, None).await;
    }
    assert_eq!(bob.told().await, (set(&[ADMIN]), set(&[CAROL])));
    world.member(CAROL, &room, CAROL, "join", None).await;
    assert_eq!(bob.told().await, (set(&[CAROL]), set(&[])));
    world.member(CAROL, &room, CAROL, "leave", None).await;
    world.member(BOB, &room, BOB, "leave", None).await;
    assert_eq!(bob.told().await, (set(&[]), set(&[ADMIN, CAROL])));
}

#[tokio::test]
async fn a_room_is_encrypted_whatever_the_event_says_that_made_it_so() {
    let world = world().await;
    for user in [ADMIN, BOB, CAROL] {
        world.register(user).await;
    }
    let room = room(&world, &[BOB, CAROL], false).await;
    let mut bob = Follower::new(&world, BOB, json!({})).await;
    world.send(ADMIN, &room, ("m.room.encryption", Some("")), json!({}), None).await;
    assert_eq!(bob.told().await, (set(&[ADMIN, CAROL]), set(&[])));
    let keys = json!({"keys": {}}).to_string().into_bytes();
    world.engine.accounts.set_device_keys(world.viewer(CAROL).device(), keys).await.unwrap();
    assert_eq!(bob.told().await, (set(&[CAROL]), set(&[])));
    encrypt(&world, &room).await;
    assert_eq!(bob.told().await, (set(&[]), set(&[])), "it was before");
}

#[tokio::test]
async fn changed_keys_are_told_to_who_shares_an_encrypted_room_and_to_oneself() {
    let world = world().await;
    for user in [ADMIN, BOB, CAROL] {
        world.register(user).await;
    }
    room(&world, &[BOB], true).await;
    room(&world, &[BOB, CAROL], false).await;
    let mut bob = Follower::new(&world, BOB, json!({})).await;
    let mut admin = Follower::new(&world, ADMIN, json!({})).await;
    let mut carol = Follower::new(&world, CAROL, json!({})).await;
    for n in 0..2 {
        let keys = json!({"keys": {"n": n}}).to_string().into_bytes();
        world.engine.accounts.set_device_keys(world.viewer(BOB).device(), keys).await.unwrap();
        assert_eq!(admin.told().await, (set(&[BOB]), set(&[])));
        assert_eq!(bob.told().await, (set(&[BOB]), set(&[])));
        assert_eq!(carol.told().await, (set(&[]), set(&[])), "no encrypted room with him");
    }
}

#[tokio::test]
async fn who_was_away_for_thousands_of_changes_is_told_everybody_whose_devices_matter() {
    let world = world().await;
    for user in [ADMIN, BOB, CAROL, DAVE] {
        world.register(user).await;
    }
    room(&world, &[BOB, CAROL], true).await;
    room(&world, &[DAVE], false).await;
    let mut admin = Follower::new(&world, ADMIN, json!({})).await;
    let mut dave = Follower::new(&world, DAVE, json!({})).await;
    // One user's, and no one's business: but nobody reads so many rows to find that out.
    for n in 0..4000 {
        let keys = json!({"keys": {"n": n}}).to_string().into_bytes();
        world.engine.accounts.set_device_keys(world.viewer(CAROL).device(), keys).await.unwrap();
    }
    assert_eq!(admin.told().await, (set(&[ADMIN, BOB, CAROL]), set(&[])));
    assert_eq!(dave.told().await, (set(&[DAVE]), set(&[])), "nobody in a plain room");
    assert_eq!(admin.told().await, (set(&[]), set(&[])), "once");
    assert_eq!(dave.told().await, (set(&[]), set(&[])), "once");
}
