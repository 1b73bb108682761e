//! Where the CQL servers are, and how they are spoken to.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use scylla::statement::{Consistency, SerialConsistency};

use crate::schema::Schema;

/// How to reach the store.
#[derive(Clone)]
pub struct CqlConfig {
    /// Nodes to begin with, `host:port`; the others are learned from them.
    pub contact_points: Vec<String>,
    /// The keyspace, made if it isn't there.
    pub keyspace: String,
    /// The datacentre whose nodes are asked first.
    pub local_datacenter: String,
    /// Replicas by datacentre, for a keyspace that has to be made.
    pub replication: BTreeMap<String, u32>,
    /// Name and password.
    pub credentials: Option<(String, String)>,
    /// How TLS is spoken; without it the connection is plain.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The tables that are used, and made where they are missing.
    pub schema: Schema,
    /// After this long an operation counts as failed, a write as of unknown outcome.
    pub timeout: Duration,
}

/// The levels of a cluster: chosen when its schema is made, kept in the store, the same for every process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistencies {
    /// One datacentre: `LOCAL_QUORUM` and `LOCAL_SERIAL`.
    OneDatacenter,
    /// Several active datacentres: `QUORUM` and `SERIAL` for whatever precedes or constitutes an acknowledgement.
    AcrossDatacenters,
}

impl std::fmt::Debug for CqlConfig {
    // The password stays out of logs.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("CqlConfig")
            .field("contact_points", &self.contact_points)
            .field("keyspace", &self.keyspace)
            .field("local_datacenter", &self.local_datacenter)
            .finish_non_exhaustive()
    }
}

impl Consistencies {
    /// What a keyspace replicated like this needs.
    #[must_use]
    pub fn of_replication(replication: &BTreeMap<String, u32>) -> Self {
        if replication.len() > 1 { Self::AcrossDatacenters } else { Self::OneDatacenter }
    }

    pub(crate) fn quorum(self) -> Consistency {
        match self {
            Self::OneDatacenter => Consistency::LocalQuorum,
            Self::AcrossDatacenters => Consistency::Quorum,
        }
    }

    /// For a read that settles conditional writes under way.
    pub(crate) fn serial_read(self) -> Consistency {
        match self {
            Self::OneDatacenter => Consistency::LocalSerial,
            Self::AcrossDatacenters => Consistency::Serial,
        }
    }

    pub(crate) fn serial(self) -> SerialConsistency {
        match self {
            Self::OneDatacenter => SerialConsistency::LocalSerial,
            Self::AcrossDatacenters => SerialConsistency::Serial,
        }
    }

    /// How the store names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OneDatacenter => "one_datacenter",
            Self::AcrossDatacenters => "across_datacenters",
        }
    }

    pub(crate) fn of_name(name: &str) -> Option<Self> {
        [Self::OneDatacenter, Self::AcrossDatacenters].into_iter().find(|levels| levels.name() == name)
    }
}
