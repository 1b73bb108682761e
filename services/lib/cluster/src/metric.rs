//! This crate's metrics.

/// Calls that were taken to another process, and those that might not be.
pub(crate) const RETRIES: &str = "polity_cluster_retries_total";
/// Calls handed on to the process that writes.
pub(crate) const FORWARDS: &str = "polity_cluster_forwards_total";
/// Rooms taken from a process that was silent.
pub(crate) const STEALS: &str = "polity_cluster_steals_total";
/// Processes that this one closed.
pub(crate) const CLOSED: &str = "polity_cluster_closed_total";
/// Logs of closed processes that were finished here.
pub(crate) const RECOVERED: &str = "polity_cluster_recovered_logs_total";

/// Describes this crate's metrics to the recorder.
pub fn describe_metrics() {
    metrics::describe_counter!(
        RETRIES,
        "Calls that a first process didn't take and that were taken to the next one, or refused since too many were."
    );
    metrics::describe_counter!(FORWARDS, "Calls handed on to the process that writes what they are about, by outcome.");
    metrics::describe_counter!(STEALS, "Logs taken over from a process that was silent for too long.");
    metrics::describe_counter!(CLOSED, "Processes that were closed because they showed no sign of life.");
    metrics::describe_counter!(RECOVERED, "Logs of closed processes that were finished by this one.");
}
