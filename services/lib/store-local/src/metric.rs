//! What the store tells about itself.

pub(crate) const QUEUE: &str = "polity_store_write_queue";
pub(crate) const GROUP: &str = "polity_store_group_writes";
pub(crate) const COMMIT_SECONDS: &str = "polity_store_commit_seconds";
pub(crate) const BYTES: &str = "polity_store_written_bytes_total";
pub(crate) const BLOCK_CACHE_BYTES: &str = "polity_store_block_cache_bytes";
pub(crate) const WRITE_BUFFER_BYTES: &str = "polity_store_write_buffer_bytes";

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
    metrics::describe_gauge!(BLOCK_CACHE_BYTES, metrics::Unit::Bytes, "Blocks of files in memory.");
    metrics::describe_gauge!(
        WRITE_BUFFER_BYTES,
        metrics::Unit::Bytes,
        "Writes in memory that are in no sorted file yet."
    );
}
