//! What travels with a call beside its message, so that it comes to the process that is best asked, and is tried again only where
//! that is safe.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tonic::{Request, Status, metadata::MetadataValue};

/// What a call is about: callers send all calls about the same thing to the same process.
pub const ROUTE: &str = "polity-route";
/// On a call that may be carried out twice: the second time gives the same.
pub const REPEATABLE: &str = "polity-repeatable";
/// On a call that another process has handed on: it isn't handed on again.
pub const FORWARDED: &str = "polity-forwarded";
/// On an answer: nothing was begun, another process may be asked. Its value says why.
pub const NOT_STARTED: &str = "polity-not-started";
/// On an answer with [`NOT_STARTED`]: the run of a process (its incarnation, in hex) that is to be asked instead.
pub const ASK: &str = "polity-ask";

/// Says what a call is about, and whether it may be carried out twice.
#[must_use]
pub fn routed<T>(mut call: Request<T>, route: &str, repeatable: bool) -> Request<T> {
    // What can't stand in a header says nothing: then any process does.
    if let Ok(route) = MetadataValue::try_from(route) {
        call.metadata_mut().insert(ROUTE, route);
    }
    if repeatable {
        call.metadata_mut().insert(REPEATABLE, MetadataValue::from_static("1"));
    }
    call
}

/// The route of calls about a room.
#[must_use]
pub fn room(tenant: u64, room_id: &str) -> String {
    format!("room:{tenant:016x}/{room_id}")
}

/// The same refusal, saying that nothing was begun: `ask` is the process (its incarnation, in hex) that is to be asked instead.
#[must_use]
pub fn not_started(mut status: Status, ask: Option<&str>) -> Status {
    let why = if ask.is_some() { "elsewhere" } else { "not-serving" };
    status.metadata_mut().insert(NOT_STARTED, MetadataValue::from_static(why));
    if let Some(ask) = ask.and_then(|ask| MetadataValue::try_from(ask).ok()) {
        status.metadata_mut().insert(ASK, ask);
    }
    status
}

/// Says in the headers how long a call may take, rounded down to milliseconds.
pub fn set_timeout(headers: &mut HeaderMap, timeout: Duration) {
    let ms = timeout.as_millis().min(99_999_999);
    if let Ok(value) = HeaderValue::try_from(format!("{ms}m")) {
        headers.insert("grpc-timeout", value);
    }
}
