//! What operators ask: is it alive, is it ready, how is it doing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;
use polity_core::tasks;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::telemetry::process;

/// How often what was recorded is folded into its buckets: until then every value is kept.
const UPKEEP: Duration = Duration::from_secs(5);
/// Buckets of durations, from 50 µs to 60 s.
const SECONDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
    30.0, 60.0,
];
/// Buckets of everything else that is counted by the piece.
const PIECES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0];

/// Whether requests can be served: the process says so, and no component of it says no.
#[derive(Debug, Clone, Default)]
pub struct Ready {
    process: Arc<AtomicBool>,
    components: Arc<Mutex<Vec<Component>>>,
    changed: watch::Sender<()>,
}

/// A part without which requests can't be served.
#[derive(Debug, Clone)]
pub struct Component {
    name: &'static str,
    ready: Arc<AtomicBool>,
    changed: watch::Sender<()>,
}

impl Component {
    /// Says whether it is ready.
    pub fn set(&self, ready: bool) {
        if self.ready.swap(ready, Ordering::AcqRel) != ready {
            self.changed.send_replace(());
        }
    }
}

impl Ready {
    /// Says that requests can be served (or can't any more).
    pub fn set(&self, ready: bool) {
        self.process.store(ready, Ordering::Release);
        self.changed.send_replace(());
    }

    /// Sees every change of what is ready.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Adds a component that isn't ready yet.
    #[must_use]
    pub fn component(&self, name: &'static str) -> Component {
        let component = Component { name, ready: Arc::default(), changed: self.changed.clone() };
        self.components.lock().push(component.clone());
        component
    }

    /// What isn't ready; nothing: all is.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let process = (!self.process.load(Ordering::Acquire)).then_some("process");
        let components = self.components.lock();
        let not_ready = components.iter().filter(|component| !component.ready.load(Ordering::Acquire));
        process.into_iter().chain(not_ready.map(|component| component.name)).collect()
    }

    fn answer(&self) -> (StatusCode, String) {
        match self.missing().as_slice() {
            [] => (StatusCode::OK, "ready\n".to_owned()),
            missing => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join(", "))),
        }
    }
}

/// Records metrics from now on, within a tokio runtime, until `stop`.
///
/// # Errors
/// When something else records them already.
pub fn record_metrics(stop: &CancellationToken) -> Result<PrometheusHandle, String> {
    let handle = builder().and_then(PrometheusBuilder::install_recorder).map_err(|error| error.to_string())?;
    crate::http::describe_metrics();
    let (stop, upkeep) = (stop.clone(), handle.clone());
    tasks::spawn(async move {
        while tokio::time::timeout(UPKEEP, stop.cancelled()).await.is_err() {
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

fn builder() -> Result<PrometheusBuilder, metrics_exporter_prometheus::BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
        .set_buckets(PIECES)
}

/// The routes of the ops listener.
pub fn router(ready: Ready, metrics: PrometheusHandle) -> Router {
    let text = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    let scrape = move || {
        let answer = (text, metrics.render() + &process::render()).into_response();
        async move { answer }
    };
    Router::new()
        .route("/health/live", get(|| async { "alive\n" }))
        .route("/health/ready", get(move || std::future::ready(ready.answer())))
        .route("/metrics", get(scrape))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(router: &Router, path: &str) -> (StatusCode, String) {
        let request = http::Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_needs_the_process_and_every_component() {
        let recorder = builder().unwrap().build_recorder();
        let ready = Ready::default();
        let router = router(ready.clone(), recorder.handle());
        assert_eq!(ask(&router, "/health/live").await.0, StatusCode::OK);
        assert_eq!(ask(&router, "/health/ready").await.0, StatusCode::SERVICE_UNAVAILABLE);
        let store = ready.component("store");
        ready.set(true);
        assert_eq!(ask(&router, "/health/ready").await.1, "not ready: store\n");
        store.set(true);
        assert_eq!(ask(&router, "/health/ready").await, (StatusCode::OK, "ready\n".to_owned()));
        ready.set(false);
        assert_eq!(ask(&router, "/health/ready").await.1, "not ready: process\n");
    }

    #[tokio::test]
    async fn a_scrape_shows_what_was_recorded_with_its_help() {
        let recorder = builder().unwrap().build_recorder();
        let router = router(Ready::default(), recorder.handle());
        metrics::with_local_recorder(&recorder, || {
            metrics::describe_counter!("polity_test_total", "A test.");
            metrics::counter!("polity_test_total").increment(3);
            metrics::histogram!("polity_test_seconds").record(0.002);
        });
        let text = ask(&router, "/metrics").await.1;
        assert!(text.contains("# HELP polity_test_total A test."), "{text}");
        assert!(text.contains("polity_test_total 3"));
        assert!(text.contains("polity_test_seconds_bucket{le=\"0.0025\"} 1"));
        assert!(text.contains("process_resident_memory_bytes"));
    }
}
