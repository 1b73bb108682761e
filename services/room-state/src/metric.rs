//! What rooms tell about themselves.

use polity_core::{Classified, ErrorKind};

use crate::error::RoomError;

const COMMANDS: &str = "polity_room_commands_total";
pub(crate) const NODE_READS: &str = "polity_room_state_node_reads_total";
pub(crate) const NODE_CACHE_BYTES: &str = "polity_room_state_node_cache_bytes";

/// Describes this crate's metrics to the recorder.
pub fn describe_metrics() {
    metrics::describe_counter!(COMMANDS, "Commands on rooms that were answered, by command and outcome.");
    metrics::describe_counter!(NODE_READS, "Nodes of room states read, by where they were found: memory or store.");
    metrics::describe_gauge!(NODE_CACHE_BYTES, metrics::Unit::Bytes, "Nodes of room states in memory.");
}

/// Counts an answer.
pub(crate) fn count<T>(command: &'static str, outcome: &Result<T, RoomError>) {
    let outcome = outcome.as_ref().map_or_else(|error| label(error.kind()), |_| "done");
    metrics::counter!(COMMANDS, "command" => command, "outcome" => outcome).increment(1);
}

fn label(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Invalid | ErrorKind::TooLarge | ErrorKind::Unsupported => "invalid",
        ErrorKind::Unauthenticated | ErrorKind::Forbidden => "forbidden",
        ErrorKind::NotFound => "not_found",
        ErrorKind::Conflict => "conflict",
        ErrorKind::Overloaded => "overloaded",
        ErrorKind::Unavailable | ErrorKind::DeadlineExceeded => "unavailable",
        _ => "internal",
    }
}
