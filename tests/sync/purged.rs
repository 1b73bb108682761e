//! Rooms that are purged: whoever was told of one learns once that that is over, and nobody hears of it again.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::{World, world};

const ADMIN: &str = "@admin:t.test";
const BOB: &str = "@bob:t.test";
const CAROL: &str = "@carol:t.test";
const DAVE: &str = "@dave:t.test";

fn token(answer: &Value) -> String {
    answer["next_batch"].as_str().unwrap().to_owned()
}

async fn sync(world: &World, user: &str, since: Option<String>) -> Value {
    world.sync(&world.request(user, since, json!({}), false)).await
}

/// A room with a member, one who is invited and one who has left; and another room.
async fn rooms(world: &World) -> (String, String) {
    let mut made = Vec::new();
    for _ in 0..2 {
        let room = world.create(ADMIN, "public_chat").await;
        for user in [BOB, DAVE] {
            world.member(user, &room, user, "join", None).await;
        }
        world.member(ADMIN, &room, CAROL, "invite", None).await;
        world.member(DAVE, &room, DAVE, "leave", None).await;
        made.push(room);
    }
    (made.remove(0), made.remove(0))
}

/// The sections in which a room stands.
fn sections<'a>(answer: &'a Value, room: &str) -> Vec<(&'a str, &'a Value)> {
    let of = |name: &'static str| Some((name, answer.get("rooms")?.get(name)?.get(room)?));
    ["join", "invite", "knock", "leave"].into_iter().filter_map(of).collect()
}

#[tokio::test]
async fn members_and_the_invited_learn_once_that_a_purged_room_is_over() {
    let world = world().await;
    let (room, other) = rooms(&world).await;
    let mut tokens = Vec::new();
    for (user, is) in [(ADMIN, "join"), (BOB, "join"), (CAROL, "invite")] {
        let answer = sync(&world, user, None).await;
        assert_eq!(sections(&answer, &room)[0].0, is);
        tokens.push((user, token(&answer)));
    }
    tokens.push((DAVE, token(&sync(&world, DAVE, None).await)));
    world.purge(&room).await;
    for (user, since) in tokens {
        for _ in 0..2 {
            // The same token twice: the same answer.
            let answer = sync(&world, user, Some(since.clone())).await;
            match (&sections(&answer, &room)[..], user) {
                ([], DAVE) => {}
                ([("leave", left)], _) => {
                    assert!(left["timeline"]["events"].as_array().is_none_or(Vec::is_empty), "{user}: {left}");
                }
                (told, _) => panic!("{user} was told {told:?}"),
            }
            assert_eq!(sections(&answer, &other), [], "{user}: nothing happened there");
            let next = sync(&world, user, Some(token(&answer))).await;
            assert_eq!(sections(&next, &room), [], "{user}: once");
        }
        for filter in [json!({}), json!({"room": {"include_leave": true}})] {
            let fresh = world.sync(&world.request(user, None, filter, false)).await;
            assert_eq!(sections(&fresh, &room), [], "{user}: there is no such room");
        }
    }
}

#[tokio::test]
async fn a_sync_that_waits_is_woken_by_a_purge() {
    let world = world().await;
    let (room, _) = rooms(&world).await;
    let since = token(&sync(&world, BOB, None).await);
    let mut request = world.request(BOB, Some(since), json!({}), false);
    request.timeout = Duration::from_secs(20);
    let began = Instant::now();
    let purge = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.purge(&room).await;
    };
    let (answer, ()) = tokio::join!(world.sync(&request), purge);
    assert_eq!(sections(&answer, &room)[0].0, "leave");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn who_has_lost_the_rooms_of_a_token_is_told_of_purged_ones_too() {
    let world = world().await;
    let (room, _) = rooms(&world).await;
    let mut request = world.request(BOB, None, json!({}), false);
    let since = token(&world.sync(&request).await);
    world.purge(&room).await;
    // As if the token were of another life of the store.
    let token_of_another = polity_core::sync_token::SyncToken {
        store: polity_core::IncarnationId::new([77; 16]),
        ..polity_core::sync_token::SyncToken::decode(&since, &request.viewer.token_key, request.viewer.token_owner())
            .unwrap()
    };
    request.since = Some(token_of_another.encode(&request.viewer.token_key, request.viewer.token_owner()));
    let answer = world.sync(&request).await;
    assert_eq!(sections(&answer, &room)[0].0, "leave", "{answer}");
}
