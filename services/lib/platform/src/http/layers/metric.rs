//! What the HTTP server tells about itself.

pub(in crate::http) const CONNECTIONS: &str = "polity_http_connections";
pub(in crate::http) const REFUSED_CONNECTIONS: &str = "polity_http_refused_connections_total";
pub(super) const REQUESTS: &str = "polity_http_requests_total";
pub(super) const SECONDS: &str = "polity_http_request_seconds";
pub(super) const SHED: &str = "polity_http_shed_requests_total";

/// Describes the HTTP server's metrics to the recorder.
pub fn describe() {
    metrics::describe_gauge!(CONNECTIONS, "Connections that are open.");
    metrics::describe_counter!(REFUSED_CONNECTIONS, "Connections refused because there were too many.");
    metrics::describe_counter!(REQUESTS, "Requests answered, by route and class of status.");
    metrics::describe_histogram!(
        SECONDS,
        metrics::Unit::Seconds,
        "Time from a request's head to its answer's, by route."
    );
    metrics::describe_counter!(SHED, "Requests refused because too many were under way.");
}
