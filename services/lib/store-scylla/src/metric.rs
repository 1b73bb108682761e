//! What the store tells about itself.

pub(crate) const OPERATION_SECONDS: &str = "polity_store_cql_operation_seconds";
pub(crate) const FAILURES: &str = "polity_store_cql_failures_total";

/// Describes this crate's metrics to the recorder.
pub fn describe_metrics() {
    metrics::describe_histogram!(
        OPERATION_SECONDS,
        metrics::Unit::Seconds,
        "Duration of an operation on the CQL store, by operation and table."
    );
    metrics::describe_counter!(FAILURES, "Operations on the CQL store that failed, by operation and kind of failure.");
}
