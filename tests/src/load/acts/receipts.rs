//! Receipts: the last one stays.

use std::sync::Arc;

use http::Method;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    escape,
    load::world::{ROOMS, Receipt, World},
};

/// Reads whatever was acknowledged last, room by room.
pub(super) async fn read(world: Arc<World>) {
    let (client, mut random, mut surely) = (&world.writers[2], world.random("receipts"), true);
    for number in 0_usize.. {
        if world.is_done() {
            return;
        }
        let room = number % ROOMS;
        let newest =
            world.promised.lock().await.iter().rev().find(|sent| sent.room == room).map(|sent| sent.event_id.clone());
        if let Some(event_id) = newest {
            let path = format!("/rooms/{}/read_markers", escape(&world.rooms[room]));
            let body = json!({"m.read": event_id, "m.fully_read": event_id});
            let answered = world.must(client, "receipt", Method::POST, &path, Some(&body)).await;
            // Asked for again, an older one may be set once more, late.
            surely &= answered.tries == 1;
            let (user, of) = (escape(&client.user_id), escape(&world.rooms[room]));
            let path = format!("/user/{user}/rooms/{of}/account_data/m.fully_read");
            let read = world.get(client, "receipt", &path).await;
            let fault = format!("the marker at {event_id} was acknowledged, {read} is there");
            world.journal.check(!surely || read["event_id"] == json!(event_id), fault, &["receipt"]);
            world.receipts.lock().await.entry(room).or_default().push(Receipt { event_id, at: Instant::now() });
        }
        world.breathe(&mut random, 60).await;
    }
}
