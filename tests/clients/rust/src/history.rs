//! An encrypted room, and a gap of 200 messages that is closed by paging back.

use std::collections::BTreeSet;

use matrix_sdk::{
    Room, RoomState,
    room::MessagesOptions,
    ruma::{
        RoomId,
        api::client::room::create_room::v3::{Request as CreateRoom, RoomPreset},
        events::{InitialStateEvent, room::encryption::RoomEncryptionEventContent},
        uint,
    },
};
use serde_json::Value;

use crate::{
    score::{Result, Score, bodies, check, same, until_true},
    user::{SYNC_LIMIT, User, texts},
};

/// More than the room can have; a server that pages in circles is caught.
const PAGES_MAX: usize = 100;

/// An encrypted room whose messages the other side reads, both ways.
pub async fn encryption(score: &mut Score, a: &User, b: &User) -> Result {
    let step = score.step("encrypted room", async {
        let mut request = CreateRoom::new();
        request.preset = Some(RoomPreset::PrivateChat);
        request.invite = vec![b.id.clone()];
        let encryption = RoomEncryptionEventContent::with_recommended_defaults();
        request.initial_state = vec![InitialStateEvent::with_empty_state_key(encryption).to_raw_any()];
        let room_id = a.client.create_room(request).await?.room_id().to_owned();
        b.expect_state(&room_id, RoomState::Invited).await?;
        b.client.join_room_by_id(&room_id).await?;
        let members = [a.id.clone(), b.id.clone()];
        for user in [a, b] {
            user.expect_members(&room_id, &members).await?;
            until_true("the room's encryption", || Ok(user.room(&room_id)?.encryption_state().is_encrypted())).await?;
        }
        Ok(room_id)
    });
    let room_id = step.await?;

    let step = score.step("encrypted messages each way", async {
        let (from_a, from_b) = (bodies("secret a", 10), bodies("secret b", 10));
        let sent = a.say(&room_id, &from_a).await?;
        b.expect_to_hear(&room_id, &a.id, "secret a", &from_a).await?;
        b.say(&room_id, &from_b).await?;
        a.expect_to_hear(&room_id, &b.id, "secret b", &from_b).await?;
        // The library decrypts what it fetches, and says how it was encrypted.
        let stored = b.room(&room_id)?.event(&sent[0], None).await?;
        check(stored.encryption_info().is_some(), || "the event is not encrypted on the server".into())
    });
    step.await
}

/// All events before the token, the newest first, page by page to the start of the room.
async fn page_back(room: &Room, mut token: String) -> Result<Vec<Value>> {
    let mut events = Vec::new();
    for _ in 0..PAGES_MAX {
        let mut options = MessagesOptions::backward().from(token.as_str());
        options.limit = uint!(30);
        let page = room.messages(options).await?;
        for event in &page.chunk {
            events.push(event.raw().deserialize_as_unchecked()?);
        }
        let Some(end) = page.end else { return Ok(events) };
        token = end;
    }
    Err(format!("no start of the room within {PAGES_MAX} pages").into())
}

/// b misses 200 messages, gets the last of them by a limited sync and the others by paging back.
pub async fn gap(score: &mut Score, a: &User, b: &mut User, room_id: &RoomId) -> Result {
    let missed = bodies("missed", 200);

    let step = score.step("gap of 200 messages", async {
        b.stop().await?;
        a.say(room_id, &missed).await?;
        b.start().await?;
        let heard = || b.timeline(room_id).map(|events| texts(&events, &a.id, "missed"));
        until_true("the last missed message", || Ok(heard()?.last() == missed.last())).await?;
        let heard = heard()?;
        check(heard.len() <= SYNC_LIMIT.into(), || format!("sync was not limited: {} messages", heard.len()))?;
        same(&heard[..], &missed[missed.len() - heard.len()..], "the messages of the limited sync")?;
        let [token] =
            <[String; 1]>::try_from(b.gaps(room_id)?).map_err(|gaps| format!("limited timelines: {gaps:?}"))?;
        Ok((b.timeline(room_id)?, token))
    });
    let (live, token) = step.await?;

    let step = score.step("page back to the first message", async {
        let mut events = page_back(&b.room(room_id)?, token).await?;
        events.reverse();
        same(&events[0]["type"], "m.room.create", "the first event")?;
        events.extend(live);
        let ids: BTreeSet<_> = events.iter().map(|event| event["event_id"].as_str()).collect();
        same(ids.len(), events.len(), "the number of different events")?;
        same(texts(&events, &a.id, "missed"), missed, "the missed messages in the whole history")?;
        same(texts(&events, &a.id, "from a"), bodies("from a", 100), "a's messages in the whole history")?;
        same(texts(&events, &b.id, "from b"), bodies("from b", 100), "b's messages in the whole history")
    });
    step.await
}
