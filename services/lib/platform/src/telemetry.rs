//! The log.

use std::{fs::OpenOptions, io, sync::Mutex};

use tracing_subscriber::{EnvFilter, fmt::writer::BoxMakeWriter};

use crate::config::{Log, LogFormat};

/// Logs from now on as configured.
///
/// # Errors
/// When the file can't be opened, or something else logs already.
pub fn start(log: &Log) -> Result<(), String> {
    let writer = if log.file.as_os_str().is_empty() {
        BoxMakeWriter::new(io::stderr)
    } else {
        let file = OpenOptions::new().create(true).append(true).open(&log.file);
        BoxMakeWriter::new(Mutex::new(file.map_err(|error| format!("log.file: {}: {error}", log.file.display()))?))
    };
    let filter = EnvFilter::new(&log.level);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false);
    let started = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| error.to_string())
}
