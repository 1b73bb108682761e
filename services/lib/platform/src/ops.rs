//! What operators ask: is it alive, is it ready, how is it doing.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{Router, http::StatusCode, routing::get};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// Whether requests can be served.
#[derive(Debug, Clone, Default)]
pub struct Ready(Arc<AtomicBool>);

impl Ready {
    /// Says that they can (or can't any more).
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Records metrics from now on.
///
/// # Errors
/// When something else records them already.
pub fn record_metrics() -> Result<PrometheusHandle, String> {
    PrometheusBuilder::new().install_recorder().map_err(|error| error.to_string())
}

/// The routes of the ops listener.
pub fn router(ready: Ready, metrics: PrometheusHandle) -> Router {
    let readiness = move || {
        let answer =
            if ready.get() { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") };
        async move { answer }
    };
    Router::new()
        .route("/health/live", get(|| async { "alive\n" }))
        .route("/health/ready", get(readiness))
        .route("/metrics", get(move || std::future::ready(metrics.render())))
}
