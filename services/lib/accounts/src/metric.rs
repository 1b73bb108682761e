//! This crate's metrics.

pub(crate) const DROPPED: &str = "polity_inbox_dropped_messages_total";

/// Describes this crate's metrics to the recorder.
pub fn describe_metrics() {
    metrics::describe_counter!(DROPPED, "Messages to devices that were dropped since the device's inbox was full.");
}
