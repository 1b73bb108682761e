//! What stands around every route: the log line, the limits, and what browsers want.
//!
//! One service does it all, so that a request pays for one box and one shared scope, whatever the number of concerns; each
//! concern has a file of its own.

mod body;
mod cors;
mod edge;
mod line;
mod load;
pub(super) mod metric;
mod refusal;
mod scope;
mod sending;

use std::{sync::Arc, time::Duration};

use axum::{Router, routing::Route};
use tower::Layer;

pub use line::Errcode;
pub use metric::describe as describe_metrics;
pub use scope::{Parked, Scope};

use crate::config::Limits;
use edge::Edge;
use load::Load;

/// The layers, with their limits.
#[derive(Debug, Clone)]
pub struct Layers {
    load: Arc<Load>,
    body_bytes: usize,
    body_timeout: Duration,
    request_timeout: Duration,
}

impl Layers {
    /// Layers with these limits. Routers that get clones of them share the limit on requests at once.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            load: Arc::new(Load::new(limits.requests)),
            body_bytes: limits.request_body_bytes,
            body_timeout: limits.body_timeout(),
            request_timeout: limits.request_timeout(),
        }
    }

    /// Puts them around all routes and fallbacks that the router has by now.
    pub fn around(&self, router: Router) -> Router {
        router.layer(self.clone())
    }
}

impl Layer<Route> for Layers {
    type Service = Edge<Route>;

    fn layer(&self, inner: Route) -> Edge<Route> {
        Edge::new(inner, self.clone())
    }
}

#[cfg(test)]
mod tests;
