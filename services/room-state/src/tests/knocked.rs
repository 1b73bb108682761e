//! Knocks: who may, how they end.

use super::*;

const KNOCK: &str = r#"{"join_rule":"knock"}"#;

#[tokio::test]
async fn a_knock_is_answered_by_an_invitation_a_refusal_or_taken_back() {
    for version in ["10", "11", "12"] {
        let mut world = world().await;
        let room = world.create(version, Preset::PrivateChat).await;
        let refused = world.member(BOB, &room, BOB, "knock").await.unwrap_err();
        assert_eq!(refused.reason, Reason::Forbidden, "the room wants invitations");
        world.put(ALICE, &room, ("m.room.join_rules", ""), KNOCK).await.unwrap();
        world.member(BOB, &room, BOB, "knock").await.unwrap();
        assert_eq!(world.membership(BOB, &room).await.unwrap().0, "knock");
        assert_eq!(world.member(BOB, &room, BOB, "join").await.unwrap_err().reason, Reason::Forbidden);
        world.member(BOB, &room, BOB, "leave").await.unwrap();
        assert_eq!(world.membership(BOB, &room).await.unwrap().0, "leave");
        world.member(BOB, &room, BOB, "knock").await.unwrap();
        world.member(ALICE, &room, BOB, "kick").await.unwrap();
        assert_eq!(world.membership(BOB, &room).await.unwrap().0, "leave", "refused");
        world.member(BOB, &room, BOB, "knock").await.unwrap();
        world.member(ALICE, &room, BOB, "invite").await.unwrap();
        world.member(BOB, &room, BOB, "join").await.unwrap();
        assert_eq!(world.member(BOB, &room, BOB, "knock").await.unwrap_err().reason, Reason::Forbidden, "in already");
        world.member(ALICE, &room, BOB, "ban").await.unwrap();
        assert_eq!(world.member(BOB, &room, BOB, "knock").await.unwrap_err().reason, Reason::Forbidden, "banned");
    }
}
