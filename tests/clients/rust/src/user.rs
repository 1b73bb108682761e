//! A logged-in user whose client syncs in the background, and all that sync delivered to it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use matrix_sdk::{
    Client, Room, RoomMemberships, RoomState,
    config::{RequestConfig, SyncSettings},
    ruma::{
        EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId,
        api::client::filter::FilterDefinition,
        events::{MessageLikeEventContent, room::message::RoomMessageEventContent},
    },
    sync::SyncResponse,
};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::score::{Result, Wrong, same, until, until_true};

/// How long to go on listening for what should not come.
const SETTLE: Duration = Duration::from_millis(300);
/// Timeline events in one sync answer: fewer than the 200 missed messages, which are to be a gap; more than can be sent between
/// two syncs of a client that listens.
pub const SYNC_LIMIT: u8 = 100;
const SYNC_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that keeps its keys in memory and gives up at once when the server is gone or refuses.
pub async fn new_client(homeserver: &str) -> Result<Client> {
    let requests = RequestConfig::new().disable_retry();
    Ok(Client::builder().homeserver_url(homeserver).request_config(requests).build().await?)
}

/// What sync delivered, repeats included.
#[derive(Default)]
struct Heard {
    /// Timeline events, decrypted where that could be done.
    events: BTreeMap<OwnedRoomId, Vec<Value>>,
    /// Who types, as sync said last.
    typing: BTreeMap<OwnedRoomId, Value>,
    /// The tokens before limited timelines.
    gaps: BTreeMap<OwnedRoomId, Vec<String>>,
    /// What ended the syncing, if something did.
    ended: Option<String>,
}

impl Heard {
    fn note(&mut self, response: &SyncResponse) -> Result {
        for (room_id, update) in &response.rooms.joined {
            if update.timeline.limited {
                let token = update.timeline.prev_batch.clone().ok_or("a limited timeline without prev_batch")?;
                self.gaps.entry(room_id.clone()).or_default().push(token);
            }
            let events = self.events.entry(room_id.clone()).or_default();
            for event in &update.timeline.events {
                events.push(event.raw().deserialize_as_unchecked()?);
            }
            for event in &update.ephemeral {
                let event: Value = event.deserialize_as_unchecked()?;
                if event["type"] == "m.typing" {
                    self.typing.insert(room_id.clone(), event["content"]["user_ids"].clone());
                }
            }
        }
        Ok(())
    }
}

pub struct User {
    pub client: Client,
    pub id: OwnedUserId,
    heard: Arc<Mutex<Heard>>,
    listening: Option<JoinHandle<()>>,
}

impl User {
    /// The user whom the client is logged in as.
    pub fn new(client: Client) -> Result<Self> {
        let id = client.user_id().ok_or("the client has no session")?.to_owned();
        Ok(Self { client, id, heard: Arc::default(), listening: None })
    }

    /// What sync delivered; wrong when the syncing has ended by itself.
    fn heard(&self) -> Result<MutexGuard<'_, Heard>> {
        let heard = lock(&self.heard);
        match &heard.ended {
            Some(wrong) => Err(format!("the sync of {} ended: {wrong}", self.id).into()),
            None => Ok(heard),
        }
    }

    /// Syncs on, from where this client stopped, and waits for the first answer.
    pub async fn start(&mut self) -> Result {
        let mut filter = FilterDefinition::default();
        filter.room.timeline.limit = Some(SYNC_LIMIT.into());
        let settings = SyncSettings::new().filter(filter.into()).timeout(SYNC_TIMEOUT);
        let first = self.client.sync_once(settings.clone().timeout(Duration::ZERO)).await?;
        self.heard()?.note(&first)?;
        let (client, heard) = (self.client.clone(), Arc::clone(&self.heard));
        self.listening = Some(tokio::spawn(async move {
            loop {
                let answer = client.sync_once(settings.clone()).await.map_err(Wrong::from);
                let mut heard = lock(&heard);
                if let Err(wrong) = answer.and_then(|answer| heard.note(&answer)) {
                    heard.ended = Some(wrong.to_string());
                    return;
                }
            }
        }));
        Ok(())
    }

    /// Stops syncing, the request under way included; what was delivered so far is forgotten.
    pub async fn stop(&mut self) -> Result {
        drop(self.heard()?);
        if let Some(listening) = self.listening.take() {
            listening.abort();
            // Only that it has ended matters: it ends by the abort.
            listening.await.ok();
        }
        *lock(&self.heard) = Heard::default();
        Ok(())
    }

    /// The room as the client knows it.
    pub fn room(&self, room_id: &RoomId) -> Result<Room> {
        self.client.get_room(room_id).ok_or_else(|| format!("{} doesn't know {room_id}", self.id).into())
    }

    /// The events that sync delivered in the room.
    pub fn timeline(&self, room_id: &RoomId) -> Result<Vec<Value>> {
        Ok(self.heard()?.events.get(room_id).cloned().unwrap_or_default())
    }

    /// The tokens before the limited timelines that sync delivered in the room.
    pub fn gaps(&self, room_id: &RoomId) -> Result<Vec<String>> {
        Ok(self.heard()?.gaps.get(room_id).cloned().unwrap_or_default())
    }

    /// Who types in the room.
    pub fn typing(&self, room_id: &RoomId) -> Result<Value> {
        Ok(self.heard()?.typing.get(room_id).cloned().unwrap_or_default())
    }

    /// Waits until the client knows the room as one where it is invited, or joined.
    pub async fn expect_state(&self, room_id: &RoomId, state: RoomState) -> Result {
        let known = || self.client.get_room(room_id).is_some_and(|room| room.state() == state);
        until_true(&format!("{room_id} as {state:?} at {}", self.id), || Ok(known())).await
    }

    /// Waits until these are the joined members of the room, as the client knows it from its sync.
    pub async fn expect_members(&self, room_id: &RoomId, expected: &[OwnedUserId]) -> Result {
        self.expect_state(room_id, RoomState::Joined).await?;
        let room = self.room(room_id)?;
        until(&format!("the members of {room_id} at {}", self.id), async || {
            let members = room.members_no_sync(RoomMemberships::JOIN).await?;
            Ok(expected.iter().all(|id| members.iter().any(|member| member.user_id() == *id)).then_some(()))
        })
        .await
    }

    /// Waits for the event.
    pub async fn see(&self, room_id: &RoomId, event_id: &EventId) -> Result<Value> {
        until(&format!("{event_id} at {}", self.id), async || {
            Ok(self.timeline(room_id)?.into_iter().find(|event| event["event_id"] == event_id.as_str()))
        })
        .await
    }

    /// Sends one event and returns its id.
    pub async fn send(&self, room_id: &RoomId, content: impl MessageLikeEventContent) -> Result<OwnedEventId> {
        Ok(self.room(room_id)?.send(content).await?.response.event_id)
    }

    /// Sends texts one after the other, each when the one before is acknowledged; returns the event ids.
    pub async fn say(&self, room_id: &RoomId, texts: &[String]) -> Result<Vec<OwnedEventId>> {
        let mut ids = Vec::new();
        for text in texts {
            ids.push(self.send(room_id, RoomMessageEventContent::text_plain(text)).await?);
        }
        Ok(ids)
    }

    /// Sends one text.
    pub async fn say_one(&self, room_id: &RoomId, text: &str) -> Result<OwnedEventId> {
        self.send(room_id, RoomMessageEventContent::text_plain(text)).await
    }

    /// Waits for all the texts and a moment longer, then compares: in order, exactly once.
    pub async fn expect_to_hear(&self, room_id: &RoomId, sender: &UserId, prefix: &str, expected: &[String]) -> Result {
        let heard = || self.timeline(room_id).map(|events| texts(&events, sender, prefix));
        // What was heard says more than that the wait was in vain.
        until_true("all of them", || Ok(heard()?.len() >= expected.len())).await.ok();
        tokio::time::sleep(SETTLE).await;
        same(heard()?, expected, &format!("messages '{prefix}' as {} received them", self.id))
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bodies among events that the sender numbered with the prefix, in the events' order.
pub fn texts(events: &[Value], sender: &UserId, prefix: &str) -> Vec<String> {
    let prefix = format!("{prefix} ");
    events
        .iter()
        .filter(|event| event["sender"] == sender.as_str() && event["type"] == "m.room.message")
        .filter_map(|event| event["content"]["body"].as_str())
        .filter(|body| body.starts_with(&prefix))
        .map(ToOwned::to_owned)
        .collect()
}
