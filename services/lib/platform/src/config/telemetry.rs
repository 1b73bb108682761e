//! The log and the traces.

use std::path::PathBuf;

use tracing_subscriber::filter::Targets;

use super::settings::{Check, Fault, choice, section};

choice! {
    /// The form of the log.
    pub enum LogFormat {
        /// For people.
        Text = "text",
        /// For machines: one object a line.
        Json = "json",
    }
}

section! {
    /// The log.
    pub struct Log {
        /// error, warn, info, debug or trace; for one part of the program more: "info,polity_log=debug". Reloaded by SIGHUP.
        level: String = "info".to_owned();
        /// "text" or "json", one object a line.
        format: LogFormat = LogFormat::Text;
        /// Where the log goes. Default: standard error. SIGHUP opens it again.
        file: PathBuf = PathBuf::new();
    }
}

section! {
    /// Traces.
    pub struct Telemetry {
        /// A collector that takes OTLP over gRPC, like "http://127.0.0.1:4317". Default: no traces.
        otlp_endpoint: String = String::new();
    }
}

impl Log {
    /// What is logged.
    ///
    /// # Errors
    /// When the level can't be read.
    pub fn targets(&self) -> Result<Targets, String> {
        let bad = |word: &str| format!("{word:?} is not error, warn, info, debug or trace");
        for part in self.level.split(',') {
            // A word that is no level would be read as the name of a module whose all is logged.
            let word = part.rsplit('=').next().unwrap_or_default().trim();
            if word != "off" && !matches!(word, "error" | "warn" | "info" | "debug" | "trace") {
                return Err(bad(word));
            }
        }
        self.level.parse::<Targets>().map_err(|_| bad(&self.level))
    }
}

impl Check for Log {
    fn faults(&self) -> Vec<Fault> {
        self.targets().err().map(|fault| ("level", fault)).into_iter().collect()
    }
}

impl Check for Telemetry {
    fn faults(&self) -> Vec<Fault> {
        let url = &self.otlp_endpoint;
        if url.is_empty() || url.starts_with("http://") || url.starts_with("https://") {
            return Vec::new();
        }
        vec![("otlp_endpoint", format!("{url:?} is not an http or https address"))]
    }
}
