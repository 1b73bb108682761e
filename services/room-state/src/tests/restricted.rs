//! Restricted rooms: who is let in, by whom, and what others are told.

use polity_core::ErrorKind;
use serde_json::Value;

use super::*;

const CAROL: &str = "@carol:t7.test";

fn rule(kind: &str, rooms: &[&str]) -> String {
    let allow: Vec<_> =
        rooms.iter().map(|room| format!("{{\"type\":\"m.room_membership\",\"room_id\":\"{room}\"}}")).collect();
    format!("{{\"join_rule\":\"{kind}\",\"allow\":[{}]}}", allow.join(","))
}

impl World {
    /// A room that members of others may join.
    async fn restricted(&mut self, version: &str, kind: &str, rooms: &[&str]) -> String {
        let room = self.create(version, Preset::PrivateChat).await;
        self.put(ALICE, &room, ("m.room.join_rules", ""), rule(kind, rooms)).await.unwrap();
        room
    }

    async fn last_content(&self, room: &str) -> Value {
        let row = self.rows(room).await.pop().unwrap();
        serde_json::from_slice::<Value>(&row.pdu).unwrap()["content"].clone()
    }
}

#[tokio::test]
async fn members_of_an_allowed_room_are_let_in_and_nobody_else() {
    for version in ["10", "11", "12"] {
        for kind in ["restricted", "knock_restricted"] {
            let mut world = world().await;
            let club = world.create(version, Preset::PublicChat).await;
            let other = world.create(version, Preset::PublicChat).await;
            let room = world.restricted(version, kind, &[&other, &club]).await;
            let refused = world.member(BOB, &room, BOB, "join").await.unwrap_err();
            assert_eq!((refused.kind, refused.reason), (ErrorKind::Forbidden, Reason::Forbidden));
            world.member(BOB, &club, BOB, "join").await.unwrap();
            world.member(BOB, &room, BOB, "join").await.unwrap();
            assert_eq!(world.last_content(&room).await["join_authorised_via_users_server"], ALICE);
            // Who has left the club doesn't come back, and who is banned doesn't either.
            world.member(BOB, &club, BOB, "leave").await.unwrap();
            world.member(BOB, &room, BOB, "leave").await.unwrap();
            assert_eq!(world.member(BOB, &room, BOB, "join").await.unwrap_err().reason, Reason::Forbidden);
            world.member(CAROL, &club, CAROL, "join").await.unwrap();
            world.member(ALICE, &room, CAROL, "ban").await.unwrap();
            assert_eq!(world.member(CAROL, &room, CAROL, "join").await.unwrap_err().reason, Reason::Forbidden);
        }
    }
}

#[tokio::test]
async fn who_is_invited_needs_no_conditions() {
    let mut world = world().await;
    let room = world.restricted("12", "restricted", &["!nowhere"]).await;
    world.member(ALICE, &room, BOB, "invite").await.unwrap();
    world.member(BOB, &room, BOB, "join").await.unwrap();
    assert!(world.last_content(&room).await.get("join_authorised_via_users_server").is_none());
}

#[tokio::test]
async fn conditions_that_nobody_here_can_check_say_so() {
    let mut world = world().await;
    let room = world.restricted("12", "restricted", &["!nowhere", "!elsewhere"]).await;
    let error = world.member(BOB, &room, BOB, "join").await.unwrap_err();
    assert_eq!((error.kind, error.reason), (ErrorKind::Invalid, Reason::UnableToAuthoriseJoin));
    // With one that can be checked, the answer is for sure.
    let club = world.create("12", Preset::PublicChat).await;
    world.put(ALICE, &room, ("m.room.join_rules", ""), rule("restricted", &["!nowhere", &club])).await.unwrap();
    assert_eq!(world.member(BOB, &room, BOB, "join").await.unwrap_err().reason, Reason::Forbidden);
}

#[tokio::test]
async fn somebody_who_may_invite_vouches_or_nobody_is_let_in() {
    let mut world = world().await;
    let club = world.create("11", Preset::PublicChat).await;
    world.member(BOB, &club, BOB, "join").await.unwrap();
    let room = world.restricted("11", "restricted", &[&club]).await;
    world.member(ALICE, &room, CAROL, "invite").await.unwrap();
    world.member(CAROL, &room, CAROL, "join").await.unwrap();
    let levels = |invite: u32| format!("{{\"invite\":{invite},\"users\":{{\"{ALICE}\":100}}}}");
    // Everybody may invite: Carol vouches once Alice has gone.
    world.put(ALICE, &room, ("m.room.power_levels", ""), levels(0)).await.unwrap();
    world.member(ALICE, &room, ALICE, "leave").await.unwrap();
    world.member(BOB, &room, BOB, "join").await.unwrap();
    assert_eq!(world.last_content(&room).await["join_authorised_via_users_server"], CAROL);
    // Only Alice may, and she isn't there.
    let strict = world.restricted("11", "restricted", &[&club]).await;
    world.put(ALICE, &strict, ("m.room.power_levels", ""), levels(50)).await.unwrap();
    world.member(ALICE, &strict, CAROL, "invite").await.unwrap();
    world.member(CAROL, &strict, CAROL, "join").await.unwrap();
    world.member(ALICE, &strict, ALICE, "leave").await.unwrap();
    let error = world.member(BOB, &strict, BOB, "join").await.unwrap_err();
    assert_eq!((error.kind, error.reason), (ErrorKind::Invalid, Reason::UnableToGrantJoin));
}

#[tokio::test]
async fn any_member_vouches_when_those_known_by_name_have_gone() {
    let mut world = world().await;
    let club = world.create("12", Preset::PublicChat).await;
    world.member(BOB, &club, BOB, "join").await.unwrap();
    let room = world.restricted("12", "restricted", &[&club]).await;
    let member = |n: usize| format!("@m{n}:t7.test");
    for n in 0..9 {
        world.member(ALICE, &room, &member(n), "invite").await.unwrap();
        world.member(&member(n), &room, &member(n), "join").await.unwrap();
    }
    // All of the first members leave; the last one is known by nothing but the state.
    world.member(ALICE, &room, ALICE, "leave").await.unwrap();
    for n in 0..8 {
        world.member(&member(n), &room, &member(n), "leave").await.unwrap();
    }
    world.member(BOB, &room, BOB, "join").await.unwrap();
    assert_eq!(world.last_content(&room).await["join_authorised_via_users_server"], member(8));
}
