//! Traces, to a collector that takes OTLP.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use tracing::Level;
use tracing_subscriber::{Layer, Registry, filter::filter_fn};

use super::StartError;
use crate::config;

/// An export takes no longer, nor does the last one at the end.
const EXPORT: Duration = Duration::from_secs(5);

static ON: AtomicBool = AtomicBool::new(false);

/// Whether anybody wants spans.
#[must_use]
pub fn enabled() -> bool {
    ON.load(Ordering::Relaxed)
}

pub(super) fn switch_on() {
    ON.store(true, Ordering::Relaxed);
}

/// The running exporter.
#[derive(Debug)]
pub(super) struct Traces(SdkTracerProvider);

/// The exporter, if one is configured. It needs no collector to be there yet.
pub(super) fn start(config: &config::Telemetry, node: &str) -> Result<Option<Traces>, StartError> {
    if config.otlp_endpoint.is_empty() {
        return Ok(None);
    }
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(config.otlp_endpoint.clone())
        .with_timeout(EXPORT)
        .build()
        .map_err(|error| StartError::Exporter(error.to_string()))?;
    let resource = Resource::builder()
        .with_service_name("polity")
        .with_attribute(KeyValue::new("service.instance.id", node.to_owned()))
        .build();
    // Who calls with a trace has decided whether it is kept.
    let sampler = Sampler::ParentBased(Box::new(Sampler::AlwaysOn));
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .with_sampler(sampler)
        .build();
    Ok(Some(Traces(provider)))
}

impl Traces {
    pub(super) fn layer(&self) -> Box<dyn Layer<Registry> + Send + Sync> {
        let spans = filter_fn(|metadata| metadata.is_span() && *metadata.level() <= Level::INFO);
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("polity"))
            .with_threads(false)
            .with_location(false)
            .with_tracked_inactivity(false)
            .with_filter(spans)
            .boxed()
    }

    /// Exports what is left.
    pub(super) fn end(&self) {
        if let Err(error) = self.0.shutdown_with_timeout(EXPORT) {
            tracing::warn!(%error, "the last traces weren't exported");
        }
    }
}
