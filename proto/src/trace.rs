//! The trace that a call belongs to: spans of caller and called, joined by the headers that travel with the call.
//!
//! How a trace is written into headers is not this crate's business: whoever exports traces registers it. Until then a call has no
//! span and costs nothing more.

use std::{future::Future, sync::OnceLock};

use http::{HeaderMap, Request, Response};
use tonic::body::Body;
use tracing::{Instrument as _, Span, field::Empty};

/// Carries traces in headers.
pub trait Propagate: Send + Sync {
    /// Writes the trace of `span` into the headers of a call.
    fn inject(&self, span: &Span, headers: &mut HeaderMap);
    /// Makes `span` a part of the trace that the headers of a call name.
    fn adopt(&self, span: &Span, headers: &HeaderMap);
}

static PROPAGATOR: OnceLock<&'static dyn Propagate> = OnceLock::new();

/// From now on calls have spans. The first word counts.
pub fn propagate_by(propagator: &'static dyn Propagate) {
    let _ = PROPAGATOR.set(propagator);
}

/// The span of a call that this process makes, written into its headers.
pub(crate) fn calling(request: &mut Request<Body>) -> Span {
    let Some(propagator) = PROPAGATOR.get() else { return Span::none() };
    let span = span("call", "client", request.uri().path());
    propagator.inject(&span, request.headers_mut());
    span
}

/// The span of a call that this process answers, in the trace of its caller.
pub(crate) fn answering<B>(request: &Request<B>) -> Span {
    let Some(propagator) = PROPAGATOR.get() else { return Span::none() };
    let span = span("answer", "server", request.uri().path());
    propagator.adopt(&span, request.headers());
    span
}

/// Runs a call in its span, which learns how the call ended where the answer's head says so (0 is well).
pub(crate) async fn within<B, E>(
    span: Span,
    call: impl Future<Output = Result<Response<B>, E>>,
) -> Result<Response<B>, E> {
    if span.is_none() {
        return call.await;
    }
    let answer = call.instrument(span.clone()).await;
    if let Ok(response) = &answer {
        let status = response.headers().get("grpc-status").and_then(|status| status.to_str().ok());
        span.record("rpc.response.status_code", status.unwrap_or("0"));
    }
    answer
}

fn span(name: &'static str, kind: &'static str, path: &str) -> Span {
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
    tracing::info_span!(
        "rpc",
        otel.name = format!("{name} {service}/{method}"),
        otel.kind = kind,
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
        rpc.response.status_code = Empty,
    )
}
