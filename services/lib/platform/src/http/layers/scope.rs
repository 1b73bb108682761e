//! What is known of a request while it runs.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use polity_core::cost::Cost;
use tokio::time::Instant;

use super::load::Load;

/// A request's scope, in its extensions: its deadline, its place among those under way, what its log line will say.
#[derive(Debug, Clone)]
pub struct Scope(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    deadline: Instant,
    load: Arc<Load>,
    cost: Arc<Cost>,
    /// Whether it has its place among the requests under way.
    placed: AtomicBool,
    body_bytes: AtomicU64,
    body_fault: AtomicU8,
    tenant: OnceLock<Box<str>>,
    user: OnceLock<Box<str>>,
}

/// A request that waits: see [`Scope::park`]. Empty for one that was parked already.
#[derive(Debug)]
pub struct Parked(Option<Scope>);

/// Why a body wasn't read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyFault {
    TooLarge = 1,
    TooSlow = 2,
}

impl Scope {
    /// The scope of a request that has taken its place already.
    pub(super) fn new(load: Arc<Load>, timeout: Duration) -> Self {
        let began = Instant::now();
        Self(Arc::new(Inner {
            began,
            deadline: began + timeout,
            load,
            cost: Arc::default(),
            placed: AtomicBool::new(true),
            body_bytes: AtomicU64::new(0),
            body_fault: AtomicU8::new(0),
            tenant: OnceLock::new(),
            user: OnceLock::new(),
        }))
    }

    /// When the request is given up.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.0.deadline
    }

    /// How long there is until the deadline.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.0.deadline.saturating_duration_since(Instant::now())
    }

    /// As long as the guard lives the request only waits (a sync for news) and doesn't count among those under way. Then it does
    /// again, whether there is a place or not: not who has waited is sent away, but who comes now.
    #[must_use]
    pub fn park(&self) -> Parked {
        let had_place = self.0.placed.swap(false, Ordering::Relaxed);
        if had_place {
            self.0.load.leave();
        }
        Parked(had_place.then(|| self.clone()))
    }

    /// Whose server was asked, for the log line. The first word counts.
    pub fn set_tenant(&self, name: &str) {
        let _ = self.0.tenant.set(name.into());
    }

    /// Who asks, for the log line. The first word counts.
    pub fn set_user(&self, id: &str) {
        let _ = self.0.user.set(id.into());
    }

    pub(super) fn cost(&self) -> Arc<Cost> {
        Arc::clone(&self.0.cost)
    }

    pub(super) fn began(&self) -> Instant {
        self.0.began
    }

    pub(super) fn tenant(&self) -> Option<&str> {
        self.0.tenant.get().map(AsRef::as_ref)
    }

    pub(super) fn user(&self) -> Option<&str> {
        self.0.user.get().map(AsRef::as_ref)
    }

    pub(super) fn count_body(&self, bytes: usize) {
        self.0.body_bytes.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn body_bytes(&self) -> u64 {
        self.0.body_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn fault_body(&self, fault: BodyFault) {
        self.0.body_fault.store(fault as u8, Ordering::Relaxed);
    }

    pub(super) fn body_fault(&self) -> Option<BodyFault> {
        match self.0.body_fault.load(Ordering::Relaxed) {
            1 => Some(BodyFault::TooLarge),
            2 => Some(BodyFault::TooSlow),
            _ => None,
        }
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        if let Some(Scope(scope)) = &self.0 {
            scope.load.come_back();
            scope.placed.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if *self.placed.get_mut() {
            self.load.leave();
        }
    }
}
