//! What digests tell about themselves.

/// How long a round of asking the others takes.
pub(super) const ROUND_SECONDS: &str = "polity_flush_seconds";
/// Requests that shared rounds.
pub(super) const JOINED: &str = "polity_flush_joined_total";
/// Processes that didn't answer a round in time.
pub(super) const SILENT: &str = "polity_flush_silent_total";
/// How often all heads were forgotten.
pub(super) const FORGOTTEN: &str = "polity_heads_forgotten_total";

/// Describes the metrics of digests to the recorder.
pub fn describe_metrics() {
    let seconds = metrics::Unit::Seconds;
    metrics::describe_histogram!(
        ROUND_SECONDS,
        seconds,
        "Rounds in which the other processes are asked for their writes."
    );
    metrics::describe_counter!(JOINED, "Requests that waited for such rounds.");
    metrics::describe_counter!(SILENT, "Processes that didn't answer such a round in time.");
    metrics::describe_counter!(FORGOTTEN, "How often everything that was read before had to be read again.");
}
