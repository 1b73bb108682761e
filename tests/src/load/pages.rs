//! A room's history, page by page.

use serde_json::Value;

use super::world::{World, text};
use crate::{Client, escape};

/// The whole history, oldest first.
pub(super) async fn whole(world: &World, client: &Client, tag: &str, room: &str) -> Vec<Value> {
    let (mut out, mut from) = (Vec::new(), String::new());
    loop {
        let path = format!("/rooms/{}/messages?dir=f&limit=500{from}", escape(room));
        let page = world.get(client, tag, &path).await;
        out.extend(page["chunk"].as_array().into_iter().flatten().cloned());
        match page["end"].as_str() {
            Some(end) => from = format!("&from={end}"),
            None => return out,
        }
    }
}

/// A few events that lie before `from`, oldest first.
pub(super) async fn before(world: &World, client: &Client, tag: &str, room: &str, from: &str) -> Vec<Value> {
    let path = format!("/rooms/{}/messages?dir=b&limit=3&from={from}", escape(room));
    let page = world.get(client, tag, &path).await;
    page["chunk"].as_array().into_iter().flatten().rev().cloned().collect()
}

/// What lies before `from` back to the event `until`, oldest first; `filter` is of the timeline.
pub(super) async fn gap(
    world: &World,
    client: &Client,
    tag: &str,
    room: &str,
    (from, until): (&str, &str),
    filter: &Value,
) -> Vec<Value> {
    let (mut out, mut from) = (Vec::new(), from.to_owned());
    loop {
        let filter = escape(&filter.to_string());
        let path = format!("/rooms/{}/messages?dir=b&limit=20&from={from}&filter={filter}", escape(room));
        let page = world.get(client, tag, &path).await;
        for event in page["chunk"].as_array().into_iter().flatten() {
            if text(event, "event_id") == until {
                out.reverse();
                return out;
            }
            out.push(event.clone());
        }
        match page["end"].as_str() {
            Some(end) => from = end.to_owned(),
            None => {
                world.journal.fail(format!("{tag}: the beginning of {room} is reached before {until}"), &[tag, until])
            }
        }
    }
}
