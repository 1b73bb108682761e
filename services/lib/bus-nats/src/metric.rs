//! What the connection tells about itself, beside the metrics of every bus.

pub(crate) const RECONNECTS: &str = "polity_bus_nats_reconnects_total";
pub(crate) const CONNECTED: &str = "polity_bus_nats_connected";
pub(crate) const SUBSCRIPTIONS: &str = "polity_bus_nats_subscriptions";

/// Describes this crate's metrics to the recorder.
pub fn describe_metrics() {
    metrics::describe_counter!(RECONNECTS, "Connections to NATS made again after one was lost.");
    metrics::describe_gauge!(CONNECTED, "Whether the connection to NATS stands: 1 or 0.");
    metrics::describe_gauge!(SUBSCRIPTIONS, "Subjects that this process has subscribed to.");
}
