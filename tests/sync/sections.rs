//! Sections of answers: rooms left and forgotten, ignored users, filters, lazily loaded members, very many unread events.

use serde_json::{Value, json};

use crate::{
    oracle,
    world::{TENANT, World, world},
};

const ADMIN: &str = "@admin:t.test";
const BOB: &str = "@bob:t.test";
const CAROL: &str = "@carol:t.test";

fn token(answer: &Value) -> String {
    answer["next_batch"].as_str().unwrap().to_owned()
}

fn bodies(section: &Value) -> Vec<&str> {
    let events = section["timeline"]["events"].as_array().unwrap().iter();
    events.filter_map(|event| event["content"]["body"].as_str()).collect()
}

async fn say(world: &World, user: &str, room: &str, body: &str) {
    let content = json!({"msgtype": "m.text", "body": body});
    world.send(user, room, ("m.room.message", None), content, None).await;
}

async fn set(world: &World, user: &str, (scope, key): (&str, &str), value: Value) {
    let user = user.try_into().unwrap();
    let value = value.to_string().into_bytes();
    world.engine.accounts.set_account_data(TENANT, user, (scope, key), value).await.unwrap();
}

/// A public room of these users.
async fn room(world: &World, users: &[&str]) -> String {
    let room = world.create(ADMIN, "public_chat").await;
    for user in users {
        world.member(user, &room, user, "join", None).await;
    }
    room
}

#[tokio::test]
async fn rooms_left_are_told_to_who_asks_up_to_the_leave_and_forgotten_ones_are_not() {
    let world = world().await;
    let (left, forgotten, back) = (room(&world, &[BOB]).await, room(&world, &[BOB]).await, room(&world, &[BOB]).await);
    for room in [&left, &forgotten, &back] {
        say(&world, ADMIN, room, "before").await;
        world.member(BOB, room, BOB, "leave", None).await;
        say(&world, ADMIN, room, "after").await;
    }
    for room in [&forgotten, &back] {
        let (user, room) = (BOB.try_into().unwrap(), room.as_str().try_into().unwrap());
        let row = polity_store::rooms::membership(&*world.store, TENANT, user, room).await.unwrap().unwrap();
        polity_store::rooms::forget(&*world.store, TENANT, user, room, row.position).await.unwrap();
    }
    // A ban doesn't undo the forgetting, nor does its end.
    world.member(ADMIN, &forgotten, BOB, "ban", None).await;
    world.member(ADMIN, &forgotten, BOB, "leave", None).await;
    // An invitation undoes the forgetting, also once it is declined.
    world.member(ADMIN, &back, BOB, "invite", None).await;
    world.member(BOB, &back, BOB, "leave", None).await;
    let plain = world.sync(&world.request(BOB, None, json!({}), false)).await;
    assert_eq!(plain.get("rooms"), None);
    let filter = json!({"room": {"include_leave": true}});
    let answer = world.sync(&world.request(BOB, None, filter.clone(), false)).await;
    let told = answer["rooms"]["leave"].as_object().unwrap();
    assert_eq!(told.len(), 2, "{answer}");
    assert_eq!(bodies(&told[&left]), ["before"]);
    assert!(told.contains_key(&back));
    let next = world.sync(&world.request(BOB, Some(token(&answer)), filter, false)).await;
    assert_eq!(next.get("rooms"), None, "once");
}

async fn topic(world: &World, room: &str, topic: &str) {
    world.send(ADMIN, room, ("m.room.topic", Some("")), json!({"topic": topic}), None).await;
}

/// The topics that a section tells, in the order in which a client takes them: beside the timeline, and in it.
fn topics(section: &Value) -> [Vec<&str>; 2] {
    [&section["state"], &section["timeline"]].map(|part| {
        let events = part["events"].as_array().into_iter().flatten();
        events.filter(|event| event["type"] == "m.room.topic").filter_map(|e| e["content"]["topic"].as_str()).collect()
    })
}

#[tokio::test]
async fn state_that_was_set_where_somebody_may_not_look_stands_and_not_what_it_undid() {
    let world = world().await;
    let room = room(&world, &[BOB]).await;
    let hidden = json!({"history_visibility": "joined"});
    world.send(ADMIN, &room, ("m.room.history_visibility", Some("")), hidden, None).await;
    let since = token(&world.sync(&world.request(BOB, None, json!({}), false)).await);
    topic(&world, &room, "old").await;
    say(&world, ADMIN, &room, "seen").await;
    world.member(BOB, &room, BOB, "leave", None).await;
    topic(&world, &room, "new").await;
    say(&world, ADMIN, &room, "hidden").await;
    world.member(BOB, &room, BOB, "join", None).await;
    say(&world, ADMIN, &room, "back").await;
    let all = json!({"room": {"timeline": {"limit": 100}}});
    for since in [None, Some(since)] {
        let answer = world.sync(&world.request(BOB, since.clone(), all.clone(), false)).await;
        let section = &answer["rooms"]["join"][&room];
        assert_eq!(topics(section), [vec!["new"], vec![]], "{section}");
        // The old one would win: the timeline begins after it.
        assert_eq!(bodies(section), ["seen", "back"], "{section}");
        assert_eq!(section["timeline"]["limited"], true);
        let after = world.sync(&world.request(BOB, since, all.clone(), true)).await;
        let section = &after["rooms"]["join"][&room];
        assert_eq!(topics(section)[1], ["old"], "with the state after the timeline nothing is left out: {section}");
    }
}

#[tokio::test]
async fn what_a_clients_own_filter_keeps_back_makes_no_timeline_shorter() {
    let world = world().await;
    let room = room(&world, &[BOB, CAROL]).await;
    let powers = json!({"users_default": 50});
    world.send(ADMIN, &room, ("m.room.power_levels", Some("")), powers, None).await;
    let filter = json!({"room": {"timeline": {"limit": 10, "not_senders": [CAROL]}}});
    let since = token(&world.sync(&world.request(BOB, None, filter.clone(), false)).await);
    say(&world, ADMIN, &room, "order").await;
    topic(&world, &room, "shown").await;
    world.send(CAROL, &room, ("m.room.topic", Some("")), json!({"topic": "kept back"}), None).await;
    let answer = world.sync(&world.request(BOB, Some(since), filter, false)).await;
    let section = &answer["rooms"]["join"][&room];
    assert_eq!(bodies(section), ["order"], "{section}");
    // The price: what is shown wins for who takes the timeline after the state.
    assert_eq!(topics(section), [vec!["kept back"], vec!["shown"]], "{section}");
    assert_eq!(section["timeline"].get("limited").cloned().unwrap_or_default(), Value::Bool(false), "{section}");
}

#[tokio::test]
async fn a_state_section_has_one_event_for_each_part_of_the_state() {
    let world = world().await;
    let room = room(&world, &[BOB]).await;
    topic(&world, &room, "0").await;
    let texts = json!({"room": {"timeline": {"limit": 4, "types": ["m.room.message"]}}});
    let since = token(&world.sync(&world.request(BOB, None, texts.clone(), false)).await);
    for number in 1..=4 {
        say(&world, ADMIN, &room, "between").await;
        topic(&world, &room, &number.to_string()).await;
    }
    say(&world, ADMIN, &room, "last").await;
    // For who knows nothing, for whom something was left out, and for who knows all but the last ones.
    for (since, limit) in [(None, 4), (Some(since.clone()), 2), (Some(since), 100)] {
        let mut filter = texts.clone();
        filter["room"]["timeline"]["limit"] = json!(limit);
        let answer = world.sync(&world.request(BOB, since, filter, false)).await;
        let section = &answer["rooms"]["join"][&room];
        assert_eq!(topics(section), [vec!["4"], vec![]], "{section}");
    }
}

#[tokio::test]
async fn events_of_ignored_users_are_kept_back_but_not_their_state_nor_what_they_are_told_later() {
    let world = world().await;
    world.register(BOB).await;
    let room = room(&world, &[BOB, CAROL]).await;
    let since = token(&world.sync(&world.request(BOB, None, json!({}), false)).await);
    set(&world, BOB, ("", "m.ignored_user_list"), json!({"ignored_users": {CAROL: {}}})).await;
    say(&world, CAROL, &room, "unseen").await;
    say(&world, ADMIN, &room, "seen").await;
    world.member(CAROL, &room, CAROL, "join", Some("Caroline".into())).await;
    let (private, accepted) = (world.create(CAROL, "private_chat").await, world.create(CAROL, "private_chat").await);
    for room in [&private, &accepted] {
        world.member(CAROL, room, BOB, "invite", None).await;
    }
    let answer = world.sync(&world.request(BOB, Some(since), json!({}), false)).await;
    let section = &answer["rooms"]["join"][&room];
    assert_eq!(bodies(section), ["seen"]);
    assert_eq!(section["unread_notifications"]["notification_count"], 1);
    let events = section["timeline"]["events"].as_array().unwrap();
    assert!(events.iter().any(|event| event["content"]["displayname"] == "Caroline"), "{section}");
    assert_eq!(answer["rooms"].get("invite"), None, "an ignored user's invitation");
    world.member(BOB, &accepted, BOB, "join", None).await;
    let answer = world.sync(&world.request(BOB, Some(token(&answer)), json!({}), false)).await;
    assert!(answer["rooms"]["join"].get(&accepted).is_some(), "{answer}");
    assert_eq!(answer["rooms"].get("invite"), None, "{answer}");
    set(&world, BOB, ("", "m.ignored_user_list"), json!({"ignored_users": {}})).await;
    let answer = world.sync(&world.request(BOB, Some(token(&answer)), json!({}), false)).await;
    assert!(answer["rooms"]["invite"].get(&private).is_some(), "{answer}");
}

#[tokio::test]
async fn what_ignored_users_say_takes_no_place_in_a_timeline() {
    let world = world().await;
    world.register(BOB).await;
    let room = room(&world, &[BOB, CAROL]).await;
    // Who ignores himself, too, is told his own.
    set(&world, BOB, ("", "m.ignored_user_list"), json!({"ignored_users": {CAROL: {}, BOB: {}}})).await;
    let since = token(&world.sync(&world.request(BOB, None, json!({}), false)).await);
    say(&world, BOB, &room, "own").await;
    say(&world, ADMIN, &room, "important").await;
    for n in 0..10 {
        say(&world, CAROL, &room, &n.to_string()).await;
    }
    let filter = json!({"room": {"timeline": {"limit": 10}}});
    let answer = world.sync(&world.request(BOB, Some(since), filter.clone(), false)).await;
    let section = &answer["rooms"]["join"][&room];
    assert_eq!(bodies(section), ["own", "important"], "{section}");
    assert_ne!(section["timeline"]["limited"], true, "{section}");
    let answer = world.sync(&world.request(BOB, None, filter, false)).await;
    let section = &answer["rooms"]["join"][&room];
    assert_eq!(bodies(section), ["own", "important"], "{section}");
    assert_eq!(section["timeline"]["events"].as_array().unwrap().len(), 10, "{section}");
}

#[tokio::test]
async fn a_state_section_has_what_has_a_url_or_has_none_as_the_filter_asks() {
    let world = world().await;
    let room = room(&world, &[BOB]).await;
    world.send(ADMIN, &room, ("m.room.avatar", Some("")), json!({"url": "mxc://t.test/avatar"}), None).await;
    say(&world, ADMIN, &room, "last").await;
    let types = async |contains_url: bool| -> Vec<String> {
        let filter = json!({"room": {"timeline": {"limit": 1}, "state": {"contains_url": contains_url}}});
        let answer = world.sync(&world.request(BOB, None, filter, false)).await;
        let events = answer["rooms"]["join"][&room]["state"]["events"].as_array().into_iter().flatten();
        events.map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(types(true).await, ["m.room.avatar"]);
    let without = types(false).await;
    assert!(without.contains(&"m.room.create".to_owned()), "{without:?}");
    assert!(!without.contains(&"m.room.avatar".to_owned()), "{without:?}");
}

/// What a section's state says of a member.
fn membership<'a>(section: &'a Value, part: &str, user: &str) -> Option<&'a str> {
    let mut events = section[part]["events"].as_array().into_iter().flatten();
    events.find(|event| event["state_key"] == user).and_then(|event| event["content"]["membership"].as_str())
}

#[tokio::test]
async fn who_loads_members_lazily_is_told_what_becomes_of_them_all() {
    let world = world().await;
    world.register(BOB).await;
    let room = room(&world, &[BOB, CAROL]).await;
    let lazy = json!({"room": {"timeline": {"limit": 3}, "state": {"lazy_load_members": true}}});
    let since = token(&world.sync(&world.request(BOB, None, lazy.clone(), false)).await);
    // Without a gap the state after the timeline is all that counts for who asks for it.
    world.member(ADMIN, &room, CAROL, "kick", None).await;
    let answer = world.sync(&world.request(BOB, Some(since.clone()), lazy.clone(), true)).await;
    let section = &answer["rooms"]["join"][&room];
    assert_eq!(membership(section, "state_after", CAROL), Some("leave"), "{section}");
    // Where the filter keeps the event out of the timeline it is in the state.
    let texts = json!({"room": {"timeline": {"types": ["m.room.message"]}, "state": {"lazy_load_members": true}}});
    let answer = world.sync(&world.request(BOB, Some(since.clone()), texts, false)).await;
    let section = &answer["rooms"]["join"][&room];
    assert_eq!(membership(section, "state", CAROL), Some("leave"), "{section}");
    // And in a gap.
    for n in 0..5 {
        say(&world, ADMIN, &room, &n.to_string()).await;
    }
    let answer = world.sync(&world.request(BOB, Some(since), lazy, false)).await;
    let section = &answer["rooms"]["join"][&room];
    assert_eq!(section["timeline"]["limited"], true, "{section}");
    assert_eq!(membership(section, "state", CAROL), Some("leave"), "{section}");
}

#[tokio::test]
async fn who_names_a_room_is_known_to_who_loads_members_lazily() {
    let world = world().await;
    world.register(BOB).await;
    let room = room(&world, &[BOB, CAROL]).await;
    world.send(ADMIN, &room, ("m.room.name", Some("")), json!({"name": "a name"}), None).await;
    let lazy = json!({"room": {"timeline": {"limit": 1}, "state": {"lazy_load_members": true}}});
    let answer = world.sync(&world.request(BOB, None, lazy.clone(), false)).await;
    assert_eq!(membership(&answer["rooms"]["join"][&room], "state", CAROL), None, "nobody needs her: {answer}");
    world.send(ADMIN, &room, ("m.room.name", Some("")), json!({}), None).await;
    let answer = world.sync(&world.request(BOB, Some(token(&answer)), lazy, false)).await;
    let section = &answer["rooms"]["join"][&room];
    assert_eq!(section["summary"]["m.heroes"], json!([ADMIN, CAROL]), "{section}");
    assert_eq!(membership(section, "state", CAROL), Some("join"), "{section}");
}

#[tokio::test]
async fn what_another_process_sent_up_to_the_same_place_counts_for_nothing() {
    let world = world().await;
    world.register(BOB).await;
    let room = room(&world, &[BOB, CAROL]).await;
    world.send(ADMIN, &room, ("m.room.name", Some("")), json!({"name": "a name"}), None).await;
    for user in [CAROL, ADMIN, ADMIN] {
        say(&world, user, &room, "said").await;
    }
    let filter = |limit: u32| json!({"room": {"timeline": {"limit": limit}, "state": {"lazy_load_members": true}}});
    // All that the client was sent there it has lost, as one that clears its cache.
    world.sync(&world.request(BOB, None, filter(3), false)).await;
    let (other, _) = world.restarted();
    let answer = other.sync(&world.request(BOB, None, filter(1), false), || ()).await.unwrap();
    say(&world, CAROL, &room, "more").await;
    let answer = world.sync(&world.request(BOB, Some(answer.next_batch), filter(10), false)).await;
    let section = &answer["rooms"]["join"][&room];
    assert_eq!(membership(section, "state", CAROL), Some("join"), "{section}");
}

#[tokio::test]
async fn what_a_filter_kept_back_counts_as_not_sent() {
    let world = world().await;
    world.register(BOB).await;
    let room = room(&world, &[BOB, CAROL]).await;
    say(&world, CAROL, &room, "one").await;
    let sync = async |since: Option<String>, state: Value| {
        let filter = json!({"room": {"timeline": {"limit": 1}, "state": state}});
        world.sync(&world.request(BOB, since, filter, false)).await
    };
    let narrow = json!({"types": ["m.room.name"], "lazy_load_members": true});
    let repeats = json!({"lazy_load_members": true, "include_redundant_members": true});
    for (before, expected) in [(narrow, Some("join")), (repeats, None)] {
        let since = token(&sync(None, before.clone()).await);
        say(&world, CAROL, &room, "more").await;
        let answer = sync(Some(since), json!({"lazy_load_members": true})).await;
        let section = &answer["rooms"]["join"][&room];
        assert_eq!(membership(section, "state", CAROL), expected, "after {before}: {section}");
    }
}

#[tokio::test]
async fn account_data_is_told_as_filters_say() {
    let world = world().await;
    world.register(BOB).await;
    let (one, two) = (room(&world, &[BOB]).await, room(&world, &[BOB]).await);
    let since = token(&world.sync(&world.request(BOB, None, json!({}), false)).await);
    for key in ["a.one", "a.two", "b.one"] {
        set(&world, BOB, ("", key), json!({"key": key})).await;
        for room in [&one, &two] {
            set(&world, BOB, (room, key), json!({"key": key})).await;
        }
    }
    let filters = [
        (json!({}), vec!["a.one", "a.two", "b.one"], vec![&one, &two]),
        (json!({"account_data": {"types": ["a.*"], "not_types": ["*.two"]}}), vec!["a.one"], vec![&one, &two]),
        (json!({"account_data": {"types": []}, "room": {"rooms": [one]}}), vec![], vec![&one]),
        (json!({"room": {"account_data": {"not_rooms": [one]}}}), vec!["a.one", "a.two", "b.one"], vec![&two]),
        (json!({"room": {"account_data": {"types": ["c"]}}}), vec!["a.one", "a.two", "b.one"], vec![]),
    ];
    for (filter, global, rooms) in filters {
        let answer = world.sync(&world.request(BOB, Some(since.clone()), filter.clone(), false)).await;
        let types = |section: &Value| -> Vec<String> {
            let events = section["account_data"]["events"].as_array().into_iter().flatten();
            events.map(|event| event["type"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(types(&answer), global, "{filter}");
        let mut with_data: Vec<&String> = [&one, &two].into_iter().collect();
        with_data.retain(|room| !types(&answer["rooms"]["join"][room.as_str()]).is_empty());
        assert_eq!(with_data, rooms, "{filter}: {answer}");
    }
}

#[tokio::test]
async fn a_lazily_loaded_member_is_sent_once_and_again_to_who_lost_the_answer_or_asks() {
    let world = world().await;
    let room = room(&world, &[BOB, CAROL]).await;
    let filter = |again: bool| {
        let state = json!({"lazy_load_members": true, "include_redundant_members": again});
        json!({"room": {"timeline": {"limit": 2}, "state": state}})
    };
    for n in 0..4 {
        say(&world, ADMIN, &room, &n.to_string()).await;
    }
    let mut since = token(&world.sync(&world.request(BOB, None, filter(false), false)).await);
    let members = |answer: &Value| -> Vec<String> {
        let events = answer["rooms"]["join"][&room]["state"]["events"].as_array().into_iter().flatten();
        let members = events.filter(|event| event["type"] == "m.room.member");
        let mut members: Vec<_> = members.map(|event| event["state_key"].as_str().unwrap().to_owned()).collect();
        members.sort();
        members
    };
    say(&world, CAROL, &room, "first").await;
    for _ in 0..2 {
        // The first answer got lost.
        let answer = world.sync(&world.request(BOB, Some(since.clone()), filter(false), false)).await;
        assert_eq!(members(&answer), [CAROL]);
    }
    since = token(&world.sync(&world.request(BOB, Some(since), filter(false), false)).await);
    say(&world, CAROL, &room, "second").await;
    say(&world, ADMIN, &room, "other").await;
    let repeated = world.sync(&world.request(BOB, Some(since.clone()), filter(true), false)).await;
    assert_eq!(members(&repeated), [ADMIN, CAROL]);
    let answer = world.sync(&world.request(BOB, Some(since), filter(false), false)).await;
    assert_eq!(members(&answer), [""; 0], "{answer}");
    // In a gap she took another name: that is another event.
    world.member(CAROL, &room, CAROL, "join", Some("Caroline".into())).await;
    for n in 0..3 {
        say(&world, CAROL, &room, &n.to_string()).await;
    }
    let answer = world.sync(&world.request(BOB, Some(token(&answer)), filter(false), false)).await;
    assert_eq!(members(&answer), [CAROL]);
}

#[tokio::test]
async fn thousands_of_unread_events_are_counted_one_by_one_and_by_whole_buckets_alike() {
    let world = world().await;
    let room = room(&world, &[BOB, CAROL]).await;
    for n in 0..2300 {
        let mentions = json!({"user_ids": if n % 100 == 0 { vec![BOB] } else { vec![] }, "room": n % 250 == 0});
        let mut content = json!({"msgtype": "m.text", "body": n.to_string(), "m.mentions": mentions});
        if n % 7 == 0 {
            content["msgtype"] = json!("m.notice");
        }
        let user = if n % 3 == 0 { CAROL } else { ADMIN };
        world.send(user, &room, ("m.room.message", None), content, None).await;
    }
    let filter = json!({"room": {"timeline": {"limit": 1, "unread_thread_notifications": true}}});
    let mut receipts = Vec::new();
    // Nothing read, some redacted, read up to somewhere in the first bucket, and in the second.
    for step in 0..4 {
        let rows = world.rows(&room).await;
        match step {
            0 => {}
            1 => {
                for row in rows.iter().skip(40).step_by(333) {
                    let redacts = Some(row.event_id.clone());
                    world.send(ADMIN, &room, ("", None), json!({}), redacts).await;
                }
            }
            _ => {
                let at = if step == 2 { 500 } else { 1500 };
                world.read(BOB, &room, (at + 1, &rows[at].event_id), (false, "")).await;
                receipts.push((at + 1, String::new()));
            }
        }
        let rows = world.rows(&room).await;
        for user in [BOB, CAROL] {
            let receipts = if user == BOB { &receipts[..] } else { &[] };
            let answer = world.sync(&world.request(user, None, filter.clone(), false)).await;
            let told = oracle::told(&answer["rooms"]["join"][&room]);
            assert_eq!(told, oracle::unread(&rows, user, ADMIN, receipts), "{user} at step {step}");
            assert!(told[""].0 > 500, "enough to count: {told:?}");
        }
    }
}
