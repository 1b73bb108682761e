//! Which part of a homeserver a process is.

use polity_cluster::kind;
use polity_platform::config::{BusKind, Config, StoreKind};

/// A part of a homeserver, or all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Everything in one process.
    All,
    /// Answers clients.
    ClientApi,
    /// Writes rooms.
    RoomState,
}

impl Tier {
    /// The program that is this tier.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::All => "polity",
            Self::ClientApi => "polity-client-api",
            Self::RoomState => "polity-room-state",
        }
    }

    /// How the registry of processes names it.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::All => kind::POLITY,
            Self::ClientApi => kind::CLIENT_API,
            Self::RoomState => kind::ROOM_STATE,
        }
    }

    /// Whether it answers clients.
    pub(crate) fn serves_clients(self) -> bool {
        self != Self::RoomState
    }

    /// Whether it writes rooms.
    pub(crate) fn writes_rooms(self) -> bool {
        self != Self::ClientApi
    }

    /// The name of a process of this tier, which no other process of the cluster has: all may have one file.
    pub(crate) fn node_name(self, config: &Config) -> String {
        let listeners = &config.listeners;
        match self {
            Self::All => config.node_name(listeners.client.bind),
            Self::ClientApi => format!("client-api@{}", config.node_name(listeners.client.bind)),
            Self::RoomState => format!("room-state@{}", config.node_name(listeners.internal.bind)),
        }
    }

    /// What is missing for a part of a homeserver: what it shares with the other parts.
    pub(crate) fn faults(self, config: &Config) -> Vec<String> {
        let mut faults = Vec::new();
        if self != Self::All && config.store.kind != StoreKind::Cql {
            faults.push(format!("store.kind: {} needs a store that processes share: \"cql\"", self.program()));
        }
        if self != Self::All && config.bus.kind != BusKind::Nats {
            faults.push(format!("bus.kind: {} needs a bus that processes share: \"nats\"", self.program()));
        }
        faults
    }
}
