//! This process among others.

use std::path::PathBuf;

use super::settings::{Check, Fault, section};

section! {
    /// This process among others.
    pub struct Cluster {
        /// This process's name, which no other process of its tier has: who starts under a name ends whatever ran under it before.
        /// Default: the host's name and the port of the tier's listener.
        node_name: String = String::new();
        /// The authority that signs the processes of this cluster and nothing else (PEM; several during a change). Needed when the
        /// store is shared.
        internal_ca: PathBuf = PathBuf::new();
        /// This process's certificate (PEM), signed by that authority for the name polity.internal, to serve and to call.
        internal_cert: PathBuf = PathBuf::new();
        /// The key of the certificate (PEM).
        internal_key: PathBuf = PathBuf::new();
    }
}

impl Check for Cluster {
    fn faults(&self) -> Vec<Fault> {
        let bad = self.node_name.len() > 100 || self.node_name.chars().any(|c| c.is_control() || c.is_whitespace());
        if bad { vec![("node_name", "longer than 100 bytes, or with white space".to_owned())] } else { Vec::new() }
    }
}
