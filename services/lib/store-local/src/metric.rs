//! What the store tells about itself.

pub(crate) const QUEUE: &str = "polity_store_write_queue";
pub(crate) const GROUP: &str = "polity_store_group_writes";
pub(crate) const COMMIT_SECONDS: &str = "polity_store_commit_seconds";
pub(crate) const BYTES: &str = "polity_store_written_bytes_total";

/// Describes this crate's metrics to the recorder.
pub fn describe_metrics() {
    metrics::describe_gauge!(QUEUE, "Writes that wait for the writer.");
    metrics::describe_histogram!(GROUP, "Writes that shared one commit.");
    metrics::describe_histogram!(
        COMMIT_SECONDS,
        metrics::Unit::Seconds,
        "Duration of a commit, and whether it was synced."
    );
    metrics::describe_counter!(BYTES, metrics::Unit::Bytes, "Bytes of keys and values written.");
}
