//! The one line that a request leaves in the log, and its metrics. Neither shows a path, a query, a header or a body.

use std::sync::OnceLock;

use axum::{extract::MatchedPath, response::Response};
use http::{Method, Request, header};
use hyper::body::Body as _;
use metrics::{Counter, Histogram};

use super::{Scope, metric};

/// The `errcode` of an answer, in its extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errcode(pub &'static str);

/// The target of the lines, for `log.level`.
const TARGET: &str = "polity::request";
const NO_ROUTE: &str = "none";
const CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The metrics of one route, looked up once.
#[derive(Debug, Default)]
pub(super) struct RouteMetrics {
    answers: [OnceLock<Counter>; CLASSES.len()],
    seconds: OnceLock<Histogram>,
}

/// What is kept of a request's head for its line. (The head itself would hold the connection's buffer.)
#[derive(Debug)]
pub(super) struct Line {
    method: Method,
    route: Option<MatchedPath>,
    /// The trace that the caller says the request belongs to.
    trace: Option<[u8; 32]>,
}

impl Line {
    pub(super) fn new<B>(request: &Request<B>) -> Self {
        let trace = request.headers().get("traceparent").and_then(|value| trace_id(value.as_bytes()));
        Self { method: request.method().clone(), route: request.extensions().get().cloned(), trace }
    }

    pub(super) fn route(&self) -> &str {
        self.route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str)
    }

    pub(super) fn method(&self) -> &str {
        self.method.as_str()
    }

    /// Notes the answer.
    pub(super) fn write(&self, scope: &Scope, response: &Response, metrics: &RouteMetrics, span: &tracing::Span) {
        let (took, status) = (scope.began().elapsed(), response.status().as_u16());
        metrics.count(self.route(), status, took.as_secs_f64());
        let given = || self.trace.as_ref().and_then(|id| std::str::from_utf8(id).ok());
        let declared =
            || response.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let cost = scope.cost();
        // What is told is worked out only if somebody wants the line.
        tracing::info!(
            target: TARGET,
            method = self.method.as_str(),
            route = self.route(),
            status,
            errcode = response.extensions().get::<Errcode>().map(|errcode| errcode.0),
            tenant = scope.tenant(),
            user = scope.user(),
            duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            bytes_in = scope.body_bytes(),
            bytes_out = response.body().size_hint().exact().or_else(declared),
            store_reads = cost.reads(),
            store_writes = cost.writes(),
            store_us = cost.us(),
            trace_id = crate::telemetry::trace_id(span).as_deref().or_else(given),
        );
    }
}

impl RouteMetrics {
    fn count(&self, route: &str, status: u16, seconds: f64) {
        let class = usize::from(status / 100);
        let class = if class < CLASSES.len() { class } else { 0 };
        let counter = self.answers[class].get_or_init(
            || metrics::counter!(metric::REQUESTS, "route" => route.to_owned(), "status" => CLASSES[class]),
        );
        counter.increment(1);
        let histogram = self.seconds.get_or_init(|| metrics::histogram!(metric::SECONDS, "route" => route.to_owned()));
        histogram.record(seconds);
    }
}

/// The trace id of a `traceparent` header. <https://www.w3.org/TR/trace-context/#traceparent-header>
fn trace_id(header: &[u8]) -> Option<[u8; 32]> {
    let id: [u8; 32] = header.get(3..35)?.try_into().ok()?;
    let whole = header.len() >= 55 && header[2] == b'-' && header[35] == b'-';
    let hex = id.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (whole && hex && id.iter().any(|&byte| byte != b'0')).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_taken_over_only_when_it_is_one() {
        let good = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(trace_id(good).as_ref().map(<[u8; 32]>::as_slice), Some(&good[3..35]));
        assert_eq!(trace_id(b"00-4bf92f3577b34da6a3ce929d0e0e4736"), None);
        assert_eq!(trace_id(b"00-00000000000000000000000000000000-00f067aa0ba902b7-01"), None);
        assert_eq!(trace_id(b"00-4bf92f3577b34da6a3ce929d0e0e473\"-00f067aa0ba902b7-01"), None);
    }
}
