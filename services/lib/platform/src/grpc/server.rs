//! Answering other members.

use std::{io, net::SocketAddr, time::Duration};

use axum::{error_handling::HandleErrorLayer, response::Response};
use polity_core::{ErrorKind, tasks};
use polity_proto::{DESCRIPTORS, Detail, Reason, answering, to_status};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};
use tower::{BoxError, ServiceBuilder, layer::layer_fn, limit::GlobalConcurrencyLimitLayer, load_shed::LoadShedLayer};

use super::{Identity, Services};
use crate::{config::Limits, http, ops::Ready};

/// Calls of one member at once.
const STREAMS: u32 = 4096;
/// When to come again, said to who is refused.
const COME_AGAIN: Duration = Duration::from_millis(500);

/// Serves other members, with gRPC health and reflection.
///
/// Calls end at their caller's deadline, belong to their caller's trace, and are refused when as many are under way as `limits.requests`
/// (but for those of services that [always](Services::with_always) answer).
pub struct Server {
    server: http::Server,
    requests: usize,
}

// === impl Server ===

impl Server {
    /// A server for members only.
    #[must_use]
    pub fn new(listener: TcpListener, identity: &Identity, limits: &Limits) -> Self {
        let server = http::Server::new(listener, limits).for_members(identity.acceptor(), STREAMS);
        Self { server, requests: limits.requests }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system doesn't say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.server.local_addr()
    }

    /// Serves until `stop`; then calls under way may end, for at most `drain`. Its health is what `ready` says.
    pub async fn serve(self, services: Services, ready: Ready, stop: CancellationToken, drain: Duration) {
        let Services { limited, always, names } = services;
        let limited = limited.into_axum_router().layer(
            ServiceBuilder::new()
                .layer(HandleErrorLayer::new(async |_: BoxError| refused()))
                .layer(LoadShedLayer::new())
                .layer(GlobalConcurrencyLimitLayer::new(self.requests)),
        );
        // Who asks how it is or what it has written is told also when it has too much to do.
        let (reporter, health) = tonic_health::server::health_reporter();
        let routes = limited.merge(always.into_axum_router());
        let routes = Routes::from(routes).add_service(health).add_service(reflection(&names));
        let routes = routes.into_axum_router().layer(layer_fn(answering));
        let told = tasks::spawn(tell(reporter, names, ready, stop.clone()));
        self.server.serve(routes, stop, drain).await;
        told.abort();
    }
}

/// What who comes when all places are taken is told.
fn refused() -> Response {
    let message = "too many calls are under way".to_owned();
    let (kind, reason, retry_after) = (ErrorKind::Overloaded, Reason::Unspecified, Some(COME_AGAIN));
    to_status(&Detail { kind, reason, message, retry_after }).into_http()
}

/// Says what is served.
fn reflection(names: &[&'static str]) -> ServerReflectionServer<impl ServerReflection> {
    let mut builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name("grpc.health.v1.Health");
    for name in names {
        builder = builder.with_service_name(*name);
    }
    builder.build_v1().unwrap_or_else(|error| unreachable!("the descriptors are part of the program: {error}"))
}

/// Lets the health of all services follow what the process says of itself, until `stop`: then none is.
async fn tell(reporter: HealthReporter, names: Vec<&'static str>, ready: Ready, stop: CancellationToken) {
    let mut changes = ready.changes();
    loop {
        changes.mark_unchanged();
        let serving = ready.missing().is_empty() && !stop.is_cancelled();
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        // The nameless one is the server as a whole.
        for name in names.iter().copied().chain([""]) {
            reporter.set_service_status(name, status).await;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = stop.cancelled(), if serving => {}
        }
    }
}
