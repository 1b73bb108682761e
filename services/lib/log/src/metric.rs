//! What logs tell about themselves.

pub(crate) const LOADED: &str = "polity_log_loaded";
pub(crate) const GROUP: &str = "polity_log_group_rows";
pub(crate) const APPEND_SECONDS: &str = "polity_log_append_seconds";
pub(crate) const FENCES: &str = "polity_log_fences_total";
pub(crate) const LOST: &str = "polity_log_lost_appends_total";
pub(crate) const REFUSED: &str = "polity_log_refused_commands_total";

/// Describes this crate's metrics to the recorder.
pub fn describe_metrics() {
    metrics::describe_gauge!(LOADED, "Logs that this process has loaded, by use.");
    metrics::describe_histogram!(GROUP, "Rows that shared one append.");
    metrics::describe_histogram!(APPEND_SECONDS, metrics::Unit::Seconds, "Duration of an append.");
    metrics::describe_counter!(FENCES, "Fences: take-overs and unknown outcomes settled.");
    metrics::describe_counter!(LOST, "Appends refused because another head stood there.");
    metrics::describe_counter!(REFUSED, "Commands refused because too many waited for one log.");
}
