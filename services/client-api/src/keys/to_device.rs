//! Messages to devices.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3sendtodeviceeventtypetxnid>

use std::collections::BTreeMap;

use axum::routing::MethodFilter;
use polity_accounts::Message;
use ruma_common::{OwnedDeviceId, OwnedUserId};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    ApiError,
    call::{Answer, Call},
    endpoint::Token,
    limits::Counted,
    routes::Routes,
};

/// Adds the endpoint.
pub(super) fn routes(routes: Routes) -> Routes {
    routes.json(MethodFilter::PUT, Token::Required, "/sendToDevice/{type}/{txn}", send_to_device)
}

#[derive(Deserialize)]
struct ToDevice {
    messages: BTreeMap<OwnedUserId, BTreeMap<String, Map<String, Value>>>,
}

async fn send_to_device(call: Call) -> Result<Answer, ApiError> {
    let (body, requester): (ToDevice, _) = (call.json()?, call.context.requester()?);
    call.context.api.count(requester, Counted::ToDevice)?;
    let (event_type, txn) = (call.param(0)?, call.param(1)?);
    let mut messages = Vec::new();
    for (user_id, devices) in body.messages {
        for (device, content) in devices {
            let event = json!({"type": event_type, "sender": requester.user_id, "content": content});
            let device_id = (device != "*").then(|| OwnedDeviceId::from(device));
            messages.push(Message { user_id: user_id.clone(), device_id, event: event.to_string().into() });
        }
    }
    let txn = format!("{event_type}/{txn}");
    call.context.api.accounts.send_to_device(requester.device(), &txn, messages).await?;
    Ok(json!({}).into())
}
