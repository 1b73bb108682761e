//! The log, the traces, the process's own numbers.
//!
//! The log takes events only and the traces take spans only. So while no collector is configured, nobody wants a span, and
//! one costs as much as a look at a number.

mod log;
mod propagation;
mod traces;

pub mod process;

use tracing_subscriber::{layer::SubscriberExt as _, util::SubscriberInitExt as _};

#[cfg(feature = "fuzzing")]
pub(crate) use propagation::read;
pub use propagation::{adopt_parent, inject};
pub(crate) use propagation::{note_status, request_span, trace_id};
pub use traces::enabled as traces_enabled;

use crate::config;

/// Why nothing can be logged.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The file can't be opened.
    #[error("log.file: {path}: {error}")]
    File {
        /// Which file.
        path: String,
        /// Why not.
        error: std::io::Error,
    },
    /// The level can't be read.
    #[error("log.level: {0}")]
    Level(String),
    /// The exporter of traces can't be made.
    #[error("telemetry.otlp_endpoint: {0}")]
    Exporter(String),
    /// Something else logs already.
    #[error("{0}")]
    Taken(#[from] tracing_subscriber::util::TryInitError),
}

/// The running log and traces. What was logged is written at the latest when it is dropped.
#[derive(Debug)]
pub struct Telemetry {
    log: log::Log,
    traces: Option<traces::Traces>,
}

/// Logs and traces from now on as configured. `node` names this process in traces. Within a tokio runtime.
///
/// # Errors
/// When the file can't be opened, the exporter can't be made, or something else logs already.
pub fn start(log: &config::Log, telemetry: &config::Telemetry, node: &str) -> Result<Telemetry, StartError> {
    let (log_layer, log) = log::start(log)?;
    let traces = traces::start(telemetry, node)?;
    let trace_layer = traces.as_ref().map(traces::Traces::layer);
    let layers: Vec<_> = std::iter::once(log_layer).chain(trace_layer).collect();
    tracing_subscriber::registry().with(layers).try_init()?;
    if traces.is_some() {
        traces::switch_on();
        polity_proto::trace::propagate_by(&propagation::Headers);
    }
    Ok(Telemetry { log, traces })
}

impl Telemetry {
    /// Takes over the level, and opens the file again (it may have been moved away).
    ///
    /// # Errors
    /// When the level can't be read or the file can't be opened; then that stays as it is.
    pub fn reload(&self, log: &config::Log) -> Result<(), StartError> {
        self.log.reload(log)
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(traces) = &self.traces {
            traces.end();
        }
    }
}

#[cfg(test)]
mod tests;
