//! The part that writes rooms.

use std::{sync::Arc, time::Duration};

use polity_log::Recover;
use polity_platform::grpc::Services;
use polity_proto::Transport;
use polity_room_state::{Deps, Service};

use crate::{ground::Ground, members::Members};

/// Bytes of state nodes that are kept.
const NODE_CACHE: u64 = 16 << 20;
/// Rooms that stay loaded when idle, at some 8 KiB each, and fewer larger ones. A send to one that isn't costs twice as much.
const LOADED_ROOMS: usize = 12_000;

/// See the module.
pub(crate) struct Rooms(Service);

// === impl Rooms ===

impl Rooms {
    pub(crate) fn new(ground: &Ground) -> Self {
        let deps = Deps::new(
            Arc::clone(&ground.store),
            Arc::clone(&ground.bus),
            Arc::clone(&ground.clock),
            Arc::clone(&ground.random),
            Arc::clone(&ground.tenants) as _,
            Arc::clone(&ground.names),
            NODE_CACHE,
        );
        Self(Service::new(deps, ground.env(), LOADED_ROOMS))
    }

    /// These services and its own: where other processes write rooms, too, calls are handed on to the one that has the room.
    pub(crate) fn serve_in(&self, services: Services, ground: &Ground, members: &Members) -> Services {
        if !ground.is_shared() {
            return services.with(self.0.server());
        }
        let rooms = self.0.clone();
        services.with(members.forward(ground, move |asked| rooms.asked(asked)))
    }

    /// The way to it for callers in this process.
    pub(crate) fn transport(&self) -> Transport {
        self.0.transport()
    }

    pub(crate) fn recover(&self) -> Arc<dyn Recover> {
        self.0.recover()
    }

    /// Unloads what is idle.
    pub(crate) fn sweep(&self) {
        self.0.sweep();
    }

    /// Ends all rooms' tasks; whether in time.
    pub(crate) async fn drain(&self, limit: Duration) -> bool {
        self.0.drain(limit).await
    }
}
