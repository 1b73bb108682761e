//! Receipts: the last one stays, and one that is private nobody else is shown.

use std::sync::Arc;

use http::Method;
use rand::RngExt as _;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    escape,
    load::world::{ROOMS, Receipt, World},
};

/// Reads whatever was acknowledged last, room by room.
pub(super) async fn read(world: Arc<World>) {
    let (mut random, mut surely) = (world.random("receipts"), true);
    for number in 0_usize.. {
        if world.is_done() {
            return;
        }
        let room = number % ROOMS;
        let newest =
            world.promised.lock().await.iter().rev().find(|sent| sent.room == room).map(|sent| sent.event_id.clone());
        if let Some(event_id) = newest {
            let known = world.receipts.lock().await.get(&room).into_iter().flatten().find_map(|receipt| {
                let is_it = receipt.event_id == event_id;
                is_it.then_some(receipt.is_private)
            });
            let is_private = known.unwrap_or(random.random_range(0..4) == 0);
            // Noted before: others may be shown it before the answer comes.
            if is_private {
                world.read_in_private.lock().await.insert(event_id.clone());
                in_private(&world, room, &event_id).await;
            } else {
                surely = in_public(&world, room, &event_id, surely).await;
            }
            let receipt = Receipt { event_id, is_private, at: Instant::now() };
            world.receipts.lock().await.entry(room).or_default().push(receipt);
        }
        world.breathe(&mut random, 60).await;
    }
}

async fn in_private(world: &World, room: usize, event_id: &str) {
    let path = format!("/rooms/{}/receipt/m.read.private/{}", escape(&world.rooms[room]), escape(event_id));
    world.must(&world.writers[2], "receipt", Method::POST, &path, Some(&json!({}))).await;
}

/// With a marker. `surely`: none was asked for twice, which may be set once more, late; the same after this one.
async fn in_public(world: &World, room: usize, event_id: &str, surely: bool) -> bool {
    let (client, of) = (&world.writers[2], escape(&world.rooms[room]));
    let body = json!({"m.read": event_id, "m.fully_read": event_id});
    let path = format!("/rooms/{of}/read_markers");
    let answered = world.must(client, "receipt", Method::POST, &path, Some(&body)).await;
    let surely = surely && answered.tries == 1;
    let path = format!("/user/{}/rooms/{of}/account_data/m.fully_read", escape(&client.user_id));
    let read = world.get(client, "receipt", &path).await;
    let fault = format!("the marker at {event_id} was acknowledged, {read} is there");
    world.journal.check(!surely || read["event_id"] == json!(event_id), fault, &["receipt"]);
    surely
}
