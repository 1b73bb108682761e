//! The events that clients get of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use ruma_common::{OwnedUserId, UserId};
use serde_json::{Map, Value, json};

use super::Receipt;

/// `m.typing`.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#mtyping>
#[must_use]
pub fn typing_event(user_ids: &[OwnedUserId]) -> Bytes {
    bytes(&json!({"type": "m.typing", "content": {"user_ids": user_ids}}))
}

/// `m.receipt` of the receipts that `viewer` may see; `None` if there is none.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#mreceipt>
#[must_use]
pub fn receipts_event<'a>(receipts: impl IntoIterator<Item = &'a Receipt>, viewer: &UserId) -> Option<Bytes> {
    let mut newest: BTreeMap<(&str, &str, Option<&str>), &Receipt> = BTreeMap::new();
    for receipt in receipts {
        if !receipt.private || receipt.user_id == viewer {
            newest.insert((receipt.user_id.as_str(), kind(receipt), receipt.thread.as_deref()), receipt);
        }
    }
    if newest.is_empty() {
        return None;
    }
    let mut content = Map::new();
    for receipt in newest.into_values() {
        let mut body = json!({"ts": receipt.at_ms});
        if let Some(thread) = &receipt.thread {
            body["thread_id"] = Value::from(thread.as_str());
        }
        let event = content.entry(receipt.event_id.as_str()).or_insert_with(|| json!({}));
        event[kind(receipt)][receipt.user_id.as_str()] = body;
    }
    Some(bytes(&json!({"type": "m.receipt", "content": content})))
}

fn kind(receipt: &Receipt) -> &'static str {
    if receipt.private { "m.read.private" } else { "m.read" }
}

fn bytes(value: &Value) -> Bytes {
    value.to_string().into()
}
