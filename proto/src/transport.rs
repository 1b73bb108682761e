//! How a tier is called: an HTTP service that speaks gRPC, in this process or behind a channel. Callers can't tell.

use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

/// The way to a tier.
#[derive(Clone)]
pub struct Transport(BoxCloneSyncService<Request<Body>, Response<Body>, tonic::transport::Error>);

/// The way to a tier in this process: its server itself.
pub fn local<S>(server: S) -> Transport
where
    S: Service<Request<Body>, Response = Response<Body>, Error = std::convert::Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    Transport(BoxCloneSyncService::new(server.map_err(|never| match never {})))
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = <BoxCloneSyncService<Request<Body>, Response<Body>, tonic::transport::Error> as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.call(request)
    }
}
