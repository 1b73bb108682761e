//! What a process answers, to callers in it and elsewhere.

use std::convert::Infallible;

use axum::response::IntoResponse;
use http::Request;
use polity_proto::{Transport, local};
use tonic::{body::Body, server::NamedService, service::Routes};
use tower::Service;

/// gRPC services by their names.
#[derive(Debug, Clone)]
pub struct Services {
    pub(super) limited: Routes,
    /// Has no answer to what it doesn't know: the others have.
    pub(super) always: Routes,
    pub(super) names: Vec<&'static str>,
}

impl Default for Services {
    fn default() -> Self {
        Self { limited: Routes::default(), always: Routes::from(axum::Router::new()), names: Vec::new() }
    }
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
        self.limited = self.limited.add_service(service);
        self
    }

    /// The same with one more that answers also while the process has too much to do: it needs next to nothing, and whoever hears
    /// nothing from it makes more work for all.
    #[must_use]
    pub fn with_always<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.names.push(S::NAME);
        self.always = self.always.add_service(service);
        self
    }

    /// The way to them for callers in this process.
    #[must_use]
    pub fn transport(&self) -> Transport {
        let Self { limited, always, .. } = self.clone();
        local(Routes::from(limited.into_axum_router().merge(always.into_axum_router())))
    }
}
