//! Large answers are sent in pieces, and have only so long: who doesn't read them keeps a piece in memory, not all of it for ever.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Error, body::Body};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use polity_core::tasks;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What is handed to a connection at once. Smaller answers are sent as they are.
const PIECE: usize = 64 * 1024;
/// Bytes a second: a connection that is slower doesn't get a large answer.
const SLOWEST: u64 = 16 * 1024;

/// The client took too long.
#[derive(Debug, thiserror::Error)]
#[error("the answer took too long to be sent")]
struct TooSlow;

/// What isn't handed over yet.
struct Rest {
    body: Body,
    read: Bytes,
}

/// See the module.
struct Pieces {
    /// None: its time is over.
    rest: Arc<Mutex<Option<Rest>>>,
    left: u64,
    _ended: DropGuard,
}

/// A body that is let go when it can't be sent in `patience` and the time that its bytes take on a slow connection.
pub(super) fn send(body: Body, patience: Duration) -> Body {
    let bytes = HttpBody::size_hint(&body).exact().unwrap_or(0);
    if bytes <= PIECE as u64 {
        return body;
    }
    let time = patience + Duration::from_secs(bytes / SLOWEST);
    let rest = Arc::new(Mutex::new(Some(Rest { body, read: Bytes::new() })));
    let (ended, late) = (CancellationToken::new(), Arc::clone(&rest));
    let pieces = Pieces { rest, left: bytes, _ended: ended.clone().drop_guard() };
    // A connection that doesn't go on doesn't ask for more either: somebody else has to look at the clock.
    tasks::spawn(async move {
        if tokio::time::timeout(time, ended.cancelled()).await.is_err() {
            tracing::debug!(bytes, "an answer took too long to be sent");
            drop(late.lock().take());
        }
    });
    Body::new(pieces)
}

impl Rest {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        while self.read.is_empty() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.read = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return other,
            }
        }
        // A copy: a slice would keep the whole answer as long as the piece is held.
        let piece = self.read.split_to(self.read.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(&piece)))))
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = match self.rest.lock().as_mut() {
            Some(rest) => rest.poll_piece(cx),
            None => Poll::Ready(Some(Err(Error::new(TooSlow)))),
        };
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.left = self.left.saturating_sub(frame.data_ref().map_or(0, Bytes::len) as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    /// An answer of which it can be told whether anybody holds it.
    fn held(bytes: usize) -> (Body, std::sync::Weak<Vec<u8>>) {
        struct Held(Arc<Vec<u8>>);
        impl AsRef<[u8]> for Held {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        let bytes = Arc::new((0..bytes).map(|n| (n % 251) as u8).collect::<Vec<_>>());
        let weak = Arc::downgrade(&bytes);
        (Body::from(Bytes::from_owner(Held(bytes))), weak)
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_gets_it_all_and_who_does_not_holds_no_more_than_a_piece() {
        for bytes in [0, 10, PIECE, PIECE + 1, 10 * PIECE] {
            let (body, weak) = held(bytes);
            let sent = send(body, Duration::from_secs(1));
            assert_eq!(HttpBody::size_hint(&sent).exact(), Some(bytes as u64));
            let read = sent.collect().await.unwrap().to_bytes();
            assert_eq!((read.len(), read.iter().enumerate().all(|(n, byte)| *byte == (n % 251) as u8)), (bytes, true));
            drop(read);
            assert!(weak.upgrade().is_none());
        }
        let (body, weak) = held(10 * PIECE);
        let mut sent = send(body, Duration::from_secs(1));
        let piece = sent.frame().await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert!(weak.upgrade().is_some(), "on a slow connection it takes as long");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(weak.upgrade().is_none(), "only the piece is held");
        assert_eq!(piece.into_data().unwrap().len(), PIECE);
        assert!(sent.frame().await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_up_is_held_no_longer() {
        let (body, weak) = held(10 * PIECE);
        drop(send(body, Duration::from_secs(1)));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(weak.upgrade().is_none());
    }
}
