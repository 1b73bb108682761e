//! What is said in a room: messages, events that refer to others, and what stands beside the timeline.

use matrix_sdk::{
    room::{
        edit::EditedContent,
        reply::{EnforceThread, Reply},
    },
    ruma::{
        RoomId,
        api::client::receipt::create_receipt::v3::ReceiptType,
        events::{
            reaction::ReactionEventContent,
            receipt::{ReceiptThread, ReceiptType as StoredReceiptType},
            relation::Annotation,
            room::message::{AddMentions, RoomMessageEventContentWithoutRelation},
        },
    },
};
use serde_json::{Value, json};

use crate::{
    score::{Result, Score, bodies, check, same, until, until_true},
    user::User,
};

/// Both send at the same time; each hears the other's messages in order, each exactly once.
pub async fn messages(score: &mut Score, a: &User, b: &User, room_id: &RoomId) -> Result {
    let step = score.step("100 messages each way", async {
        let (from_a, from_b) = (bodies("from a", 100), bodies("from b", 100));
        tokio::try_join!(a.say(room_id, &from_a), b.say(room_id, &from_b))?;
        b.expect_to_hear(room_id, &a.id, "from a", &from_a).await?;
        a.expect_to_hear(room_id, &b.id, "from b", &from_b).await?;
        a.expect_to_hear(room_id, &a.id, "from a", &from_a).await
    });
    step.await
}

/// Events that refer to others: reply, edit, reaction, redaction.
pub async fn relations(score: &mut Score, a: &User, b: &User, room_id: &RoomId) -> Result {
    let target = a.say_one(room_id, "to be answered").await?;
    b.see(room_id, &target).await?;

    let step = score.step("reply", async {
        let to = Reply {
            event_id: target.clone(),
            enforce_thread: EnforceThread::MaybeThreaded,
            add_mentions: AddMentions::Yes,
        };
        let answer = RoomMessageEventContentWithoutRelation::text_plain("an answer");
        let content = b.room(room_id)?.make_reply_event(answer, to).await?;
        let reply = b.send(room_id, content).await?;
        let seen = &a.see(room_id, &reply).await?["content"];
        same(&seen["m.relates_to"], &json!({ "m.in_reply_to": { "event_id": target } }), "what the reply names")?;
        same(&seen["body"], "an answer", "the reply as a sees it")
    });
    step.await?;

    let step = score.step("edit", async {
        let edited = EditedContent::RoomMessage(RoomMessageEventContentWithoutRelation::text_plain("edited"));
        let content = a.room(room_id)?.make_edit_event(&target, edited).await?;
        let edit = a.send(room_id, content).await?;
        let seen = &b.see(room_id, &edit).await?["content"];
        same(&seen["m.relates_to"], &json!({ "rel_type": "m.replace", "event_id": target }), "what the edit names")?;
        same(&seen["m.new_content"]["body"], "edited", "the edit as b sees it")
    });
    step.await?;

    let step = score.step("reaction", async {
        let content = ReactionEventContent::new(Annotation::new(target.clone(), "👍".to_owned()));
        let reaction = b.send(room_id, content).await?;
        let expected = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": target, "key": "👍" } });
        same(&a.see(room_id, &reaction).await?["content"], &expected, "the reaction as a sees it")
    });
    step.await?;

    let step = score.step("redaction", async {
        let doomed = a.say_one(room_id, "to be taken back").await?;
        b.see(room_id, &doomed).await?;
        let redaction = a.room(room_id)?.redact(&doomed, Some("a slip"), None).await?.event_id;
        same(&b.see(room_id, &redaction).await?["content"]["redacts"], doomed.as_str(), "what the redaction names")?;
        let stored: Value = b.room(room_id)?.event(&doomed, None).await?.raw().deserialize_as_unchecked()?;
        same(&stored["content"], &json!({}), "the content of the redacted event")?;
        let because = &stored["unsigned"]["redacted_because"];
        same(&because["sender"], a.id.as_str(), "the sender in redacted_because")?;
        same(&because["content"]["reason"], "a slip", "the reason of the redaction")
    });
    step.await
}

/// What does not go into the timeline: typing and receipts.
pub async fn signals(score: &mut Score, a: &User, b: &User, room_id: &RoomId) -> Result {
    let step = score.step("typing", async {
        a.room(room_id)?.typing_notice(true).await?;
        until_true("a's typing at b", || Ok(b.typing(room_id)? == json!([a.id]))).await?;
        a.room(room_id)?.typing_notice(false).await?;
        until_true("the end of a's typing at b", || Ok(b.typing(room_id)? == json!([]))).await
    });
    step.await?;

    let step = score.step("receipts", async {
        let read = a.say_one(room_id, "to be read").await?;
        b.see(room_id, &read).await?;
        b.room(room_id)?.send_single_receipt(ReceiptType::Read, ReceiptThread::Unthreaded, read.clone()).await?;
        let room = a.room(room_id)?;
        let receipt = until("b's receipt at a", async || {
            let found = room.load_user_receipt(StoredReceiptType::Read, ReceiptThread::Unthreaded, &b.id).await?;
            Ok(found.filter(|(event_id, _)| *event_id == read))
        });
        let (_, receipt) = receipt.await?;
        check(receipt.ts.is_some_and(|ts| ts.get() > 0u8.into()), || format!("the receipt has no time: {receipt:?}"))
    });
    step.await
}
