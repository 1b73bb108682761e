//! A body that may be only so large and take only so long.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Error, body::Body};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::scope::{BodyFault, Scope};

/// Why reading a body failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the body is too large")]
    TooLarge,
    #[error("the body took too long")]
    TooSlow,
}

/// See the module. Its faults are noted in the scope, so that the answer can tell them.
struct Guarded {
    inner: Body,
    left: usize,
    until: Instant,
    /// Made when the body is waited for at last: most come with their head.
    alarm: Option<Pin<Box<Sleep>>>,
    scope: Scope,
}

/// Guards a body; one that is empty needs none. None: it says itself that it is too large.
pub(super) fn guard(body: Body, scope: &Scope, limit: usize, time: Duration) -> Option<Body> {
    let hint = HttpBody::size_hint(&body);
    if body.is_end_stream() || hint.exact() == Some(0) {
        return Some(body);
    }
    if hint.lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return None;
    }
    let until = scope.began() + time;
    Some(Body::new(Guarded { inner: body, left: limit, until, alarm: None, scope: scope.clone() }))
}

impl Guarded {
    fn fail(&self, fault: BodyFault) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.scope.fault_body(fault);
        let failure = if fault == BodyFault::TooLarge { Failure::TooLarge } else { Failure::TooSlow };
        Poll::Ready(Some(Err(Error::new(failure))))
    }
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                this.scope.count_body(bytes);
                let Some(left) = this.left.checked_sub(bytes) else { return this.fail(BodyFault::TooLarge) };
                this.left = left;
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending => {
                let until = this.until;
                let alarm = this.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
                match alarm.as_mut().poll(cx) {
                    Poll::Ready(()) => this.fail(BodyFault::TooSlow),
                    Poll::Pending => Poll::Pending,
                }
            }
            ended => ended,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        HttpBody::size_hint(&self.inner)
    }
}
