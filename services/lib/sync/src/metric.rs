//! What the caches of readers tell about themselves.

const BYTES: &str = "polity_sync_cache_bytes";
const ANSWERS: &str = "polity_answers_bytes";
const SHED: &str = "polity_sync_shed_answers_total";
const ENTRIES: &str = "polity_sync_cache_entries";

/// Describes this crate's metrics to the recorder.
pub fn describe_metrics() {
    metrics::describe_gauge!(BYTES, metrics::Unit::Bytes, "Memory of the caches that are bounded by bytes.");
    metrics::describe_gauge!(ANSWERS, metrics::Unit::Bytes, "Memory of large answers that are being made and sent.");
    metrics::describe_counter!(SHED, "Syncs that were refused for want of memory for large answers.");
    metrics::describe_gauge!(ENTRIES, "Entries of the caches that are bounded by their number.");
}

pub(crate) fn bytes(cache: &'static str, weight: u64) {
    let kib = u32::try_from(weight / 1024).unwrap_or(u32::MAX);
    metrics::gauge!(BYTES, "cache" => cache).set(f64::from(kib) * 1024.0);
}

pub(crate) fn answers(bytes: u64) {
    let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
    metrics::gauge!(ANSWERS).set(f64::from(kib) * 1024.0);
}

pub(crate) fn shed() {
    metrics::counter!(SHED).increment(1);
}

pub(crate) fn entries(cache: &'static str, count: usize) {
    metrics::gauge!(ENTRIES, "cache" => cache).set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
}
