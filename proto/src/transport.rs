//! How a tier is called: an HTTP service that speaks gRPC, in this process or behind a channel. Callers can't tell.

use std::{
    convert::Infallible,
    error::Error,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use tonic::{ConnectError, Status, TimeoutExpired, body::Body, transport::Channel};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

use crate::trace;

/// The way to a tier.
#[derive(Clone)]
pub struct Transport(BoxCloneSyncService<Request<Body>, Response<Body>, tonic::transport::Error>);

/// The way to a tier in this process: its server itself. A call's deadline (`grpc-timeout`) holds as it does across the network.
pub fn local<S>(server: S) -> Transport
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    Transport(BoxCloneSyncService::new(answering(server).map_err(|never| match never {})))
}

/// The way to a tier in another process. The deadline of a call holds also while there is no connection yet.
#[must_use]
pub fn remote(channel: Channel) -> Transport {
    Transport(BoxCloneSyncService::new(tower::service_fn(move |request: Request<Body>| {
        let limit = timeout(request.headers());
        let call = channel.clone().oneshot(request);
        within(limit, async {
            match call.await {
                // The channel has a clock for the call, too, and may be first.
                Err(error) if has_source(&error, |error| error.is::<TimeoutExpired>()) => Ok(too_late()),
                answer => answer,
            }
        })
    })))
}

/// Whether a call failed before it left this process: it may be made again, to whomever.
#[must_use]
pub fn never_began(error: &(dyn Error + 'static)) -> bool {
    has_source(error, |error| {
        // hyper cancels what still waits to be sent when the peer takes no more on this connection.
        error.is::<ConnectError>() || error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
    })
}

fn has_source(error: &(dyn Error + 'static), is: fn(&(dyn Error + 'static)) -> bool) -> bool {
    is(error) || error.source().is_some_and(|source| has_source(source, is))
}

/// A server as it answers calls: within the time that the caller has, in the trace that the call names.
pub fn answering<S, B, R>(
    server: S,
) -> impl Service<Request<B>, Response = Response<R>, Error = Infallible, Future: Send + 'static>
+ Clone
+ Send
+ Sync
+ 'static
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: Send + 'static,
    R: Default + Send + 'static,
{
    tower::service_fn(move |request: Request<B>| {
        let (limit, span) = (timeout(request.headers()), trace::answering(&request));
        within(limit, trace::within(span, server.clone().oneshot(request)))
    })
}

/// Gives a call up when its time is over.
async fn within<R: Default, E>(
    limit: Option<Duration>,
    call: impl Future<Output = Result<Response<R>, E>>,
) -> Result<Response<R>, E> {
    let Some(limit) = limit else { return call.await };
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer,
        Err(_) => Ok(too_late()),
    }
}

fn too_late<R: Default>() -> Response<R> {
    Status::deadline_exceeded("the call's deadline has passed").into_http()
}

/// A request that is given up after `limit`, here and by who answers it.
pub fn with_deadline<T>(message: T, limit: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(limit);
    request
}

impl Transport {
    /// The way that `service` knows, which may fail to bring a call there or an answer back.
    pub fn over<S>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = tonic::transport::Error>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        Self(BoxCloneSyncService::new(service))
    }

    /// The way that `service` knows: what it does with a call is its own business.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        Self(BoxCloneSyncService::new(service.map_err(|never| match never {})))
    }
}

/// How long a call may take, by its `grpc-timeout`: up to eight digits and a unit. What isn't one sets no limit.
#[must_use]
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, tonic::transport::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let span = trace::calling(&mut request);
        let call = self.0.call(request);
        if span.is_none() { call } else { Box::pin(trace::within(span, call)) }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::room_state::{KickUserRequest, SendEventRequest, room_state_client::RoomStateClient};

    /// Refuses every call but one, which it never answers.
    #[derive(Clone)]
    struct Half;

    impl Service<Request<Body>> for Half {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            Box::pin(async move {
                if request.uri().path().ends_with("/KickUser") {
                    std::future::pending::<()>().await;
                }
                Ok(Status::internal("no").into_http())
            })
        }
    }

    #[tokio::test]
    async fn calls_are_answered_and_end_at_their_deadline() {
        let mut client = RoomStateClient::new(local(Half));
        let late = client.kick_user(with_deadline(KickUserRequest::default(), Duration::from_millis(5))).await;
        assert_eq!(late.unwrap_err().code(), Code::DeadlineExceeded);
        let send = with_deadline(SendEventRequest::default(), Duration::from_secs(60));
        assert_eq!(client.send_event(send).await.unwrap_err().code(), Code::Internal);
    }

    #[test]
    fn deadlines_are_read() {
        let read = |text: &str| {
            timeout(&[(http::HeaderName::from_static("grpc-timeout"), text.parse().unwrap())].into_iter().collect())
        };
        for (text, wanted) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("99999999m", Some(Duration::from_millis(99_999_999))),
            ("5u", Some(Duration::from_micros(5))),
            ("6n", Some(Duration::from_nanos(6))),
            ("100000000m", None),
            ("5", None),
            ("-5S", None),
            ("S", None),
            ("", None),
            ("5x", None),
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
    }
}
