//! The store, the bus, and this process among others.

use super::settings::{Check, Fault, choice, section};

choice! {
    /// Which store.
    pub enum StoreKind {
        /// On disk, in the data folder.
        Embedded = "embedded",
        /// In memory: gone with the process.
        Memory = "memory",
    }
}

choice! {
    /// Which bus.
    pub enum BusKind {
        /// Within this process.
        Embedded = "embedded",
    }
}

section! {
    /// The store.
    pub struct Store {
        /// "embedded" (on disk, in data_dir) or "memory" (gone with the process).
        kind: StoreKind = StoreKind::Embedded;
    }
}

section! {
    /// The bus.
    pub struct Bus {
        /// "embedded": within this process.
        kind: BusKind = BusKind::Embedded;
    }
}

section! {
    /// This process among others.
    pub struct Cluster {
        /// This process's name. Default: the host's name and the client listener's port.
        node_name: String = String::new();
    }
}

impl Check for Store {
    fn faults(&self) -> Vec<Fault> {
        Vec::new()
    }
}

impl Check for Bus {
    fn faults(&self) -> Vec<Fault> {
        Vec::new()
    }
}

impl Check for Cluster {
    fn faults(&self) -> Vec<Fault> {
        let bad = self.node_name.len() > 100 || self.node_name.chars().any(|c| c.is_control() || c.is_whitespace());
        if bad { vec![("node_name", "longer than 100 bytes, or with white space".to_owned())] } else { Vec::new() }
    }
}
