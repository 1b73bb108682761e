//! A profile that comes late to a room.

use std::{sync::Arc, time::Duration};

use http::Request;
use polity_proto::Transport;
use serde_json::{Value, json};
use tokio::sync::watch;
use tonic::{Code, Status, body::Body};
use tower::{ServiceExt as _, service_fn};

use crate::world::{Client, World};

/// Nothing takes so long.
const LONG: Duration = Duration::from_secs(20);

/// The calls of one instance that give rooms a profile: held back when it is asked for.
pub(crate) struct Calls {
    held: watch::Sender<bool>,
    /// How many were held back so far, and how many of those were answered.
    waited: watch::Sender<usize>,
    answered: watch::Sender<usize>,
}

impl Calls {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            held: watch::Sender::new(false),
            waited: watch::Sender::new(0),
            answered: watch::Sender::new(0),
        })
    }

    /// The way to `rooms` on which they are held back.
    pub(crate) fn way(self: &Arc<Self>, rooms: Transport) -> Transport {
        let calls = Arc::clone(self);
        Transport::over(service_fn(move |call: Request<Body>| {
            let (calls, rooms) = (Arc::clone(&calls), rooms.clone());
            async move {
                let mut held = calls.held.subscribe();
                if !call.uri().path().ends_with("/SetProfile") || !*held.borrow() {
                    return rooms.oneshot(call).await;
                }
                calls.waited.send_modify(|waited| *waited += 1);
                held.wait_for(|held| !*held).await.unwrap();
                let answer = rooms.oneshot(call).await?;
                let status = Status::from_header_map(answer.headers());
                assert!(status.is_none_or(|status| status.code() == Code::Ok), "the room takes it");
                calls.answered.send_modify(|answered| *answered += 1);
                Ok(answer)
            }
        }))
    }
}

async fn more_than_none(count: &watch::Sender<usize>) {
    let mut count = count.subscribe();
    tokio::time::timeout(LONG, count.wait_for(|count| *count > 0)).await.expect("it never happens").unwrap();
}

impl Client<'_> {
    async fn call_oneself(&self, at: usize, name: &str) {
        let path = format!("/profile/{}/displayname", self.user_id);
        let (status, answer) = self.at(at, "PUT", &path, json!({"displayname": name})).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// Waits until the room knows the user by this name.
    async fn is_known_as(&self, room: &str, name: &str) {
        let path = format!("/rooms/{room}/state/m.room.member/{}", self.user_id);
        let mut member = Value::Null;
        // What fails once is tried again after five seconds.
        for _ in 0..400 {
            member = self.get(&path).await;
            if member["displayname"] == name {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never known as {name}: {member}");
    }
}

#[tokio::test]
async fn a_profile_that_comes_late_to_a_room_gives_way_to_a_newer_one() {
    let world = World::of(2).await;
    world.work();
    let alice = world.user("alice").await;
    let room = alice.create().await;
    let calls = &world.profiles_of_first;
    calls.held.send_replace(true);
    alice.call_oneself(0, "Old").await;
    // Whoever gives it to the room has read it.
    more_than_none(&calls.waited).await;
    alice.call_oneself(1, "New").await;
    alice.is_known_as(&room, "New").await;
    calls.held.send_replace(false);
    more_than_none(&calls.answered).await;
    alice.is_known_as(&room, "New").await;
}
