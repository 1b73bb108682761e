//! Traces across processes: the W3C `traceparent` header, in HTTP and in gRPC metadata alike.
//!
//! <https://www.w3.org/TR/trace-context/>

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator as _},
    trace::TraceContextExt as _,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::traces::enabled;

struct Given<'a>(&'a HeaderMap);

impl Extractor for Given<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct Taken<'a>(&'a mut HeaderMap);

impl Injector for Taken<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

/// Writes the trace of `span` into the headers of a call.
pub fn inject(span: &Span, headers: &mut HeaderMap) {
    if enabled() {
        write(&span.context(), headers);
    }
}

/// Makes `span` a part of the trace that the headers of a call name, if they do.
pub fn adopt_parent(span: &Span, headers: &HeaderMap) {
    if !enabled() || span.is_none() {
        return;
    }
    let parent = read(headers);
    if parent.span().span_context().is_valid() {
        // Fails only when no layer takes traces: then there is nothing to be a part of.
        let _ = span.set_parent(parent);
    }
}

/// How calls between tiers carry their trace.
pub(super) struct Headers;

impl polity_proto::trace::Propagate for Headers {
    fn inject(&self, span: &Span, headers: &mut HeaderMap) {
        inject(span, headers);
    }

    fn adopt(&self, span: &Span, headers: &HeaderMap) {
        adopt_parent(span, headers);
    }
}

fn write(context: &Context, headers: &mut HeaderMap) {
    TraceContextPropagator::new().inject_context(context, &mut Taken(headers));
}

pub(crate) fn read(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Given(headers))
}

/// The span of a request; none while nobody wants one.
pub(crate) fn request_span(method: &str, route: &str, headers: &HeaderMap) -> Span {
    if !enabled() {
        return Span::none();
    }
    let span = tracing::info_span!(
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
    );
    adopt_parent(&span, headers);
    span
}

/// Notes the answer's status.
pub(crate) fn note_status(span: &Span, status: StatusCode) {
    if !span.is_none() {
        span.record("http.response.status_code", status.as_u16());
    }
}

/// The id of the span's trace, if it is in one.
pub(crate) fn trace_id(span: &Span) -> Option<String> {
    if span.is_none() {
        return None;
    }
    let context = span.context();
    let id = context.span().span_context().trace_id();
    (id != opentelemetry::trace::TraceId::INVALID).then(|| id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_crosses_headers_unchanged() {
        let mut headers = HeaderMap::new();
        headers
            .insert("traceparent", HeaderValue::from_static("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        let context = read(&headers);
        assert_eq!(context.span().span_context().trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let mut out = HeaderMap::new();
        write(&context, &mut out);
        assert_eq!(out.get("traceparent"), headers.get("traceparent"));
        assert!(!read(&HeaderMap::new()).span().span_context().is_valid());
    }
}
