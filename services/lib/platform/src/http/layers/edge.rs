//! The order of the concerns.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{extract::Request, response::Response};
use futures_util::FutureExt as _;
use http::Method;
use polity_core::cost;
use tokio::time::timeout_at;
use tower::Service;
use tracing::Instrument as _;

use super::{
    Layers, Scope, body, cors,
    line::{Line, RouteMetrics},
    metric, refusal,
    scope::BodyFault,
    sending,
};
use crate::telemetry;

/// A route with all layers around it.
#[derive(Debug, Clone)]
pub struct Edge<S> {
    inner: S,
    layers: Layers,
    metrics: Arc<RouteMetrics>,
}

impl<S> Edge<S> {
    pub(super) fn new(inner: S, layers: Layers) -> Self {
        Self { inner, layers, metrics: Arc::default() }
    }
}

impl<S> Service<Request> for Edge<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if request.method() == Method::OPTIONS {
            return Box::pin(std::future::ready(Ok(cors::preflight())));
        }
        let line = Line::new(&request);
        if !self.layers.load.enter() {
            metrics::counter!(metric::SHED).increment(1);
            let mut response = refusal::overloaded();
            cors::allow(response.headers_mut());
            return Box::pin(std::future::ready(Ok(response)));
        }
        let scope = Scope::new(Arc::clone(&self.layers.load), self.layers.request_timeout);
        let span = telemetry::request_span(line.method(), line.route(), request.headers());
        let metrics = Arc::clone(&self.metrics);
        let patience = self.layers.body_timeout;
        let Some(inner) = self.enter(request, &scope) else {
            return Box::pin(std::future::ready(Ok(finish(refusal::too_large(), &line, &scope, &metrics, &span))));
        };
        Box::pin(async move {
            let metered = cost::metered(scope.cost(), AssertUnwindSafe(inner).catch_unwind());
            let guarded = timeout_at(scope.deadline(), metered);
            let answered = if span.is_none() { guarded.await } else { guarded.instrument(span.clone()).await };
            let response = match (answered, scope.body_fault()) {
                // Whatever the handler made of it, this is what went wrong.
                (_, Some(BodyFault::TooLarge)) => refusal::too_large(),
                (_, Some(BodyFault::TooSlow)) => refusal::too_slow(),
                (Ok(Ok(Ok(response))), None) => response,
                (Ok(Ok(Err(never))), None) => match never {},
                (Ok(Err(_)), None) => {
                    tracing::error!(route = line.route(), "a request ended in a panic");
                    refusal::defect()
                }
                (Err(_), None) => refusal::out_of_time(),
            };
            Ok(finish(response, &line, &scope, &metrics, &span).map(|body| sending::send(body, patience)))
        })
    }
}

impl<S> Edge<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    /// Starts the route, with a guarded body and the scope at hand. None: the body is too large by its own word.
    fn enter(&mut self, request: Request, scope: &Scope) -> Option<S::Future> {
        let (mut parts, body) = request.into_parts();
        let body = body::guard(body, scope, self.layers.body_bytes, self.layers.body_timeout)?;
        parts.extensions.insert(scope.clone());
        Some(self.inner.call(Request::from_parts(parts, body)))
    }
}

fn finish(
    mut response: Response,
    line: &Line,
    scope: &Scope,
    metrics: &RouteMetrics,
    span: &tracing::Span,
) -> Response {
    cors::allow(response.headers_mut());
    telemetry::note_status(span, response.status());
    line.write(scope, &response, metrics, span);
    response
}
