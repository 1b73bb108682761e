//! Hands calls on to the process that writes what they are about, and takes that over when the process hasn't got it or is silent.
//!
//! A process that is asked for a log of another one answers so ([`route::ASK`]); a call is handed on once, and never further.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use polity_core::{
    IncarnationId,
    mutation::{Mutation, planted},
};
use polity_log::{Asked, Claim, LogError, Registry, Why};
use polity_proto::{Status, route};
use quick_cache::sync::Cache;
use tokio::time::Instant;
use tonic::{body::Body, server::NamedService};
use tower::{Service, ServiceExt};

use crate::{
    Live, Member, Peers,
    envelope::Envelope,
    metric,
    peers::{Called, PROBE},
};

/// A log is taken from a process that hasn't answered for so long; twice as long each time that it was taken before.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often that doubles.
const DOUBLED: u32 = 6;
/// After so long in peace it counts as never taken.
const PEACE: Duration = Duration::from_secs(600);
/// For so long a process that served a call counts as the one to be asked.
const OWNED: Duration = Duration::from_secs(1);
/// How often a log may be somebody else's while one call is carried out.
const ROUNDS: usize = 5;
/// Logs of which it is remembered who has them, and how often they were taken.
const KEPT: usize = 10_000;

/// A gRPC service of several processes, of which one at a time does what a call asks. See the module.
pub struct Forward<S> {
    make: Arc<dyn Fn(Asked) -> S + Send + Sync>,
    shared: Arc<Shared>,
}

struct Shared {
    live: Arc<Live>,
    peers: Arc<Peers>,
    registry: Arc<Registry>,
    /// Who served calls about a thing.
    owners: Cache<Box<str>, (IncarnationId, Instant)>,
    /// How often a thing was taken from somebody silent, and when last.
    taken: Cache<Box<str>, (u32, Instant)>,
}

/// What became of a call that was handed on.
enum HandedOn {
    Answered(Response<Body>),
    /// Nothing was begun there: it may be done here.
    Claim(Why),
    Failed(Status),
}

// === impl Forward ===

impl<S> Clone for Forward<S> {
    fn clone(&self) -> Self {
        Self { make: Arc::clone(&self.make), shared: Arc::clone(&self.shared) }
    }
}

impl<S> Forward<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
{
    /// The service that `make` gives for a call, by how the call came here.
    pub fn new(
        live: Arc<Live>,
        peers: Arc<Peers>,
        registry: Arc<Registry>,
        make: impl Fn(Asked) -> S + Send + Sync + 'static,
    ) -> Self {
        let (owners, taken) = (Cache::new(KEPT), Cache::new(KEPT));
        Self { make: Arc::new(make), shared: Arc::new(Shared { live, peers, registry, owners, taken }) }
    }

    async fn answer(self, call: Request<Body>) -> Result<Response<Body>, Status> {
        if call.headers().contains_key(route::FORWARDED) && !planted(Mutation::ForwardedAgain) {
            return Ok(self.here(Asked { forwarded: true, claim: None }, call).await);
        }
        let mut envelope = Envelope::open(call).await?;
        envelope.forward();
        envelope.in_time(self.somewhere(&envelope)).await
    }

    async fn somewhere(&self, envelope: &Envelope) -> Result<Response<Body>, Status> {
        let what = envelope.says(route::ROUTE).unwrap_or_default();
        let mut known = self.shared.owner(what);
        let mut claim = None;
        for _ in 0..ROUNDS {
            let from = match known.take() {
                Some(owner) => owner,
                None => {
                    let answer = self.here(Asked { forwarded: false, claim }, envelope.call_here()).await;
                    match asks(answer.headers()) {
                        Some(other) => other,
                        None => return Ok(answer),
                    }
                }
            };
            match self.shared.hand_on(what, from, envelope).await {
                HandedOn::Answered(answer) => return Ok(answer),
                HandedOn::Claim(why) => claim = Some(Claim { from, why }),
                HandedOn::Failed(status) => return Err(status),
            }
        }
        Err(route::not_started(Status::unavailable("several processes write this at once"), None))
    }

    async fn here(&self, asked: Asked, call: Request<Body>) -> Response<Body> {
        (self.make)(asked).oneshot(call).await.unwrap_or_else(|never| match never {})
    }
}

impl<S: NamedService> NamedService for Forward<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Forward<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Request<Body>) -> Self::Future {
        let answered = self.clone().answer(call);
        Box::pin(async move { Ok(answered.await.unwrap_or_else(Status::into_http)) })
    }
}

/// The process that is to be asked instead, if an answer's headers say so.
pub(crate) fn asks(headers: &HeaderMap) -> Option<IncarnationId> {
    let other = headers.get(route::ASK)?.to_str().ok()?;
    let digits = other.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    let bytes: Option<Vec<u8>> = digits.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
    IncarnationId::from_slice(&bytes?).ok()
}

// === impl Shared ===

impl Shared {
    /// Who served calls about this a moment ago.
    fn owner(&self, what: &str) -> Option<IncarnationId> {
        self.owners.get(what).filter(|(_, at)| at.elapsed() < OWNED).map(|(owner, _)| owner)
    }

    /// Calls that don't say what they are about may be about anything.
    fn note_owner(&self, what: &str, owner: IncarnationId) {
        if !what.is_empty() {
            self.owners.insert(what.into(), (owner, Instant::now()));
        }
    }

    /// For how long a process must be silent before this is taken from it.
    fn patience(&self, what: &str) -> Duration {
        PATIENCE * 2_u32.pow(self.taken(what).min(DOUBLED))
    }

    /// How often this was taken from somebody silent lately.
    fn taken(&self, what: &str) -> u32 {
        self.taken.get(what).filter(|(_, at)| at.elapsed() < PEACE).map_or(0, |(count, _)| count)
    }

    fn take(&self, what: &str) -> HandedOn {
        metrics::counter!(metric::STEALS).increment(1);
        if !what.is_empty() {
            self.taken.insert(what.into(), (self.taken(what) + 1, Instant::now()));
        }
        self.owners.remove(what);
        HandedOn::Claim(Why::Silent)
    }

    /// Hands a call on.
    async fn hand_on(&self, what: &str, to: IncarnationId, call: &Envelope) -> HandedOn {
        let member = match self.member(to).await {
            Ok(Some(member)) => member,
            // It isn't in the registry, and so has nothing open: whoever takes over fences.
            Ok(None) => return HandedOn::Claim(Why::Silent),
            Err(error) => return HandedOn::Failed(Status::unavailable(error.to_string())),
        };
        let (patience, repeatable) = (self.patience(what), call.says(route::REPEATABLE).is_some());
        loop {
            // Looked at again: it may not have been asked for long, and then only begins to be silent.
            let silent = || self.peers.silence(to) >= patience;
            if silent() && !self.peers.probe(&member).await && silent() {
                return self.take(what);
            }
            match self.peers.call(&member, call, patience).await {
                Called::Answered(answer) => {
                    metrics::counter!(metric::FORWARDS, "outcome" => "answered").increment(1);
                    self.note_owner(what, to);
                    return HandedOn::Answered(answer);
                }
                Called::NotStarted(status) if status.metadata().contains_key(route::NOT_STARTED) => {
                    metrics::counter!(metric::FORWARDS, "outcome" => "not held").increment(1);
                    self.owners.remove(what);
                    return HandedOn::Claim(Why::NotHeld);
                }
                Called::NotStarted(_) => tokio::time::sleep(PROBE).await,
                Called::Unknown(_) if repeatable => tokio::time::sleep(PROBE).await,
                Called::Silent if repeatable => return self.take(what),
                Called::Unknown(status) => return HandedOn::Failed(status),
                Called::Silent => {
                    // It may have been done, and can't be done twice: only the next call takes it over.
                    return HandedOn::Failed(Status::unavailable("the process that writes this has not answered"));
                }
            }
        }
    }

    async fn member(&self, incarnation: IncarnationId) -> Result<Option<Arc<Member>>, LogError> {
        match self.live.find(incarnation) {
            Some(member) => Ok(Some(member)),
            None => Ok(self.registry.member(incarnation).await?.map(Arc::new)),
        }
    }
}
