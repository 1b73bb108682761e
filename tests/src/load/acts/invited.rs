//! An invitation: who is invited is told, whatever process is asked, and with a token from before.

use http::Method;
use serde_json::{Value, json};

use crate::{
    Client, escape,
    load::world::{World, text},
};

/// Invites who is out of the second room; whether it was asked for once only: else it may come again.
pub(super) async fn is_told(world: &World, client: &Client, tag: &str) -> bool {
    let room = &world.rooms[1];
    let (_, since) = sync(world, client, tag, "").await;
    let (path, body) = (format!("/rooms/{}/invite", escape(room)), json!({"user_id": client.user_id}));
    let tries = world.must(&world.writers[0], tag, Method::POST, &path, Some(&body)).await.tries;
    for since in ["", &since] {
        let (rooms, _) = sync(world, client, tag, since).await;
        let events = rooms["invite"][room]["invite_state"]["events"].as_array().into_iter().flatten();
        let own = |event: &Value| text(event, "type") == "m.room.member" && text(event, "state_key") == client.user_id;
        let told = events.filter(|event| own(event)).any(|event| text(&event["content"], "membership") == "invite");
        let fault = format!("an invitation was acknowledged, and a sync since {since:?} tells {rooms}");
        world.journal.check(told, fault, &["barred-"]);
    }
    tries == 1
}

/// What a sync tells of the room, and the next token.
async fn sync(world: &World, client: &Client, tag: &str, since: &str) -> (Value, String) {
    let filter = json!({"room": {"rooms": [world.rooms[1]], "timeline": {"limit": 1}}}).to_string();
    let since = if since.is_empty() { String::new() } else { format!("&since={since}") };
    let answer = world.get(client, tag, &format!("/sync?timeout=0&filter={}{since}", escape(&filter))).await;
    (answer["rooms"].clone(), text(&answer, "next_batch").to_owned())
}
