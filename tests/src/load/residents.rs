//! Users and rooms that are there before anybody does anything.

use std::{collections::HashMap, sync::Arc};

use http::Method;
use serde_json::json;

use super::world::{COUNT, PASSWORD, ROOMS, WRITERS};
use crate::{Client, Way, escape};

/// See the module. A copy of the store in which they are is as good as the store itself.
#[derive(Clone)]
pub struct Residents {
    pub(crate) rooms: Vec<String>,
    pub(crate) writers: Vec<Client>,
    /// By name: who isn't a writer.
    pub(crate) others: HashMap<&'static str, Client>,
    /// Somebody of another tenant, and a room there.
    pub(super) neighbour: Option<(Client, String)>,
}

impl Residents {
    /// Makes them, on a server that answers.
    ///
    /// # Panics
    /// When the server doesn't let them begin.
    pub async fn settle(stranger: &Client) -> Self {
        let mut writers = Vec::new();
        for n in 0..WRITERS {
            writers.push(account(stranger, &format!("writer{n}")).await);
        }
        let mut others = HashMap::new();
        for name in ["guest", "receiver", "owner", "claimer", "founder", "watched", "watcher"] {
            others.insert(name, account(stranger, name).await);
        }
        let mut rooms = Vec::new();
        for _ in 0..ROOMS {
            let anybody = json!({"preset": "public_chat", "power_level_content_override": {"events": {COUNT: 0}}});
            let room = writers[0].create_room(anybody).await.expect("a new room");
            for writer in &writers[1..] {
                let path = format!("/rooms/{}/join", escape(&room));
                writer.call(Method::POST, &path, Some(json!({}))).await.expect("anybody may join");
            }
            rooms.push(room);
        }
        Self { rooms, writers, others, neighbour: None }
    }

    /// And so many rows in one of the rooms.
    ///
    /// # Panics
    /// When the server doesn't let them write.
    #[must_use]
    pub async fn and_a_long_room(self, rows: usize) -> Self {
        let (client, room) = (&self.writers[0], escape(&self.rooms[ROOMS - 1]));
        let path = format!("/rooms/{room}/messages?dir=f&limit=500");
        let page = client.call(Method::GET, &path, None).await.expect("the room's rows");
        let there = page["chunk"].as_array().map_or(0, Vec::len);
        for number in there..rows {
            let path = format!("/rooms/{room}/send/org.polity.filler/{number}");
            client.call(Method::PUT, &path, Some(json!({}))).await.expect("a row");
        }
        self
    }

    /// And somebody of another tenant that is there.
    ///
    /// # Panics
    /// When the server doesn't let him begin.
    #[must_use]
    pub async fn and_a_neighbour(self, stranger: &Client) -> Self {
        let client = account(stranger, "writer0").await;
        let room = client.create_room(json!({"preset": "public_chat"})).await.expect("a new room");
        Self { neighbour: Some((client, room)), ..self }
    }

    /// Three of them.
    #[must_use]
    pub fn three(&self) -> [Client; 3] {
        [0, 1, 2].map(|at| self.writers[at].clone())
    }

    /// The same at a server that has a copy of the store, and to which this is the way.
    #[must_use]
    pub fn at(&self, way: &Arc<dyn Way>) -> Self {
        let rooms = self.rooms.clone();
        let writers = self.writers.iter().map(|client| client.by(way.afresh())).collect();
        // In one order: each new way has a number.
        let mut names: Vec<_> = self.others.keys().copied().collect();
        names.sort_unstable();
        let others = names.into_iter().map(|name| (name, self.others[name].by(way.afresh()))).collect();
        let neighbour = self.neighbour.as_ref().map(|(client, room)| (client.by(way.afresh()), room.clone()));
        Self { rooms, writers, others, neighbour }
    }
}

async fn account(stranger: &Client, name: &str) -> Client {
    let mut client = stranger.stranger();
    client.register(name, PASSWORD).await.expect("a new account");
    client
}
