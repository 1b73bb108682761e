//! Messages to a device: each once, in order.

use std::{collections::HashMap, sync::Arc};

use http::Method;
use serde_json::{Value, json};

use crate::load::world::{World, text};

const EVENT_TYPE: &str = "org.polity.number";

/// Sends numbers to the receiver's one device.
pub(super) async fn send(world: Arc<World>, me: usize) {
    let (client, receiver) = (&world.writers[me], &world.others["receiver"]);
    let mut random = world.random(&format!("to-device{me}"));
    for number in 0_u64.. {
        if world.is_done() {
            return;
        }
        let tag = format!("device{me}-{number}.");
        let messages = json!({&receiver.user_id: {&receiver.device_id: {"n": number}}});
        // All senders name their messages alike.
        let path = format!("/sendToDevice/{EVENT_TYPE}/t{number}");
        world.must(client, &tag, Method::PUT, &path, Some(&json!({"messages": messages}))).await;
        world.sent_to_device.lock().await.insert(client.user_id.clone(), number + 1);
        world.breathe(&mut random, 30).await;
    }
}

/// Receives them by sync, until everything is quiet; each sender's numbers come one after the other.
pub(super) async fn receive(world: Arc<World>) {
    let receiver = &world.others["receiver"];
    let (mut since, mut next) = (String::new(), HashMap::<String, u64>::new());
    loop {
        let last = world.is_quiet();
        let path = format!("/sync?timeout={}{since}", if last { 0 } else { 1000 });
        let answer = world.get(receiver, "receiver", &path).await;
        let events = numbers(&answer);
        for (sender, number) in &events {
            let expected = next.entry(sender.clone()).or_default();
            let fault = format!("{sender}'s message {number} came where {expected} was due");
            world.journal.check(
                number == expected,
                fault,
                &["receiver", &format!("-{expected}."), &format!("-{number}.")],
            );
            *expected += 1;
        }
        since = format!("&since={}", text(&answer, "next_batch"));
        if last && events.is_empty() {
            break;
        }
    }
    let sent = world.sent_to_device.lock().await;
    world.journal.check(next == *sent, format!("sent to the device {sent:?}, received {next:?}"), &["receiver"]);
}

fn numbers(answer: &Value) -> Vec<(String, u64)> {
    let events = answer["to_device"]["events"].as_array().into_iter().flatten();
    let ours = events.filter(|event| text(event, "type") == EVENT_TYPE);
    ours.map(|event| (text(event, "sender").to_owned(), event["content"]["n"].as_u64().unwrap_or(u64::MAX))).collect()
}
