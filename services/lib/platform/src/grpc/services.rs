//! What a process answers, to callers in it and elsewhere.

use std::convert::Infallible;

use axum::response::IntoResponse;
use http::Request;
use polity_proto::{Transport, local};
use tonic::{body::Body, server::NamedService, service::Routes};
use tower::Service;

/// gRPC services by their names.
#[derive(Debug, Clone, Default)]
pub struct Services {
    pub(super) routes: Routes,
    pub(super) names: Vec<&'static str>,
}

// === impl Services ===

impl Services {
    /// The same with one more.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.names.push(S::NAME);
        self.routes = self.routes.add_service(service);
        self
    }

    /// The way to them for callers in this process.
    #[must_use]
    pub fn transport(&self) -> Transport {
        local(self.routes.clone())
    }
}
