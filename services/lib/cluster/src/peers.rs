//! Asks other processes, and knows which of them have been silent, and for how long.

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::Response;
use parking_lot::Mutex;
use polity_core::{IncarnationId, tasks};
use polity_proto::{Status, never_began, route};
use tokio::time::Instant;
use tonic::{Code, body::Body};
use tower::ServiceExt;

use crate::{Connect, Member, envelope::Envelope, grpc::ping_within};

/// How often whoever hasn't answered yet is asked for a sign of life, and how long that may take.
pub(crate) const PROBE: Duration = Duration::from_millis(250);
/// Who wasn't asked for so long hasn't been silent.
const UNASKED: Duration = Duration::from_secs(5);
/// Silence is forgotten after so long without a question: the run has ended, or nobody needs it.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// See the module.
pub struct Peers {
    connect: Arc<dyn Connect>,
    silent: Mutex<HashMap<IncarnationId, Silence>>,
}

/// What is known of a process that didn't answer.
struct Silence {
    /// The first question that it didn't answer, and the last one.
    since: Instant,
    last: Instant,
    /// Whether it is being asked for a sign of life.
    probed: bool,
}

/// What became of a call.
pub(crate) enum Called {
    /// It was answered.
    Answered(Response<Body>),
    /// It surely wasn't begun: there was no connection, or the process said so.
    NotStarted(Status),
    /// The process hasn't shown a sign of life for as long as whoever asks was patient. It may yet be carried out.
    Silent,
    /// The connection broke: it may have been carried out.
    Unknown(Status),
}

impl Peers {
    /// Nobody is known to be silent yet.
    #[must_use]
    pub fn new(connect: Arc<dyn Connect>) -> Arc<Self> {
        Arc::new(Self { connect, silent: Mutex::default() })
    }

    /// For how long a process hasn't answered; nothing if it answered what it was asked last.
    #[must_use]
    pub fn silence(&self, of: IncarnationId) -> Duration {
        self.silent.lock().get(&of).map_or(Duration::ZERO, |silence| silence.last - silence.since)
    }

    /// Whether a process didn't answer what it was asked last.
    pub(crate) fn is_silent(&self, member: IncarnationId) -> bool {
        self.silent.lock().contains_key(&member)
    }

    /// Makes a call, and gives it up once the process has been silent for `patience`: one that is slow and alive isn't.
    pub(crate) async fn call(&self, member: &Member, call: &Envelope, patience: Duration) -> Called {
        // Since then it hasn't been heard.
        let mut asked = Instant::now();
        let mut answer = self.connect.to(&member.address).oneshot(call.call());
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return self.called(member, asked, answer),
                () = tokio::time::sleep(PROBE) => {}
            }
            tokio::select! {
                biased;
                answer = &mut answer => return self.called(member, asked, answer),
                alive = self.probe(member) => {
                    if alive {
                        asked = Instant::now();
                    } else if self.silence(member.incarnation) >= patience {
                        return Called::Silent;
                    }
                }
            }
        }
    }

    fn called(
        &self,
        member: &Member,
        asked: Instant,
        answer: Result<Response<Body>, tonic::transport::Error>,
    ) -> Called {
        match answer {
            Ok(answer) => {
                let status = Status::from_header_map(answer.headers());
                // The way itself says so when time is over.
                if status.as_ref().is_none_or(|status| status.code() != Code::DeadlineExceeded) {
                    self.heard(member.incarnation);
                }
                match status {
                    Some(status) if answer.headers().contains_key(route::NOT_STARTED) => Called::NotStarted(status),
                    _ => Called::Answered(answer),
                }
            }
            Err(error) => {
                self.unheard(member.incarnation, asked);
                let refused = never_began(&error);
                let status = Status::unavailable(format!("a process can't be reached: {error}"));
                if refused { Called::NotStarted(status) } else { Called::Unknown(status) }
            }
        }
    }

    /// Whether a process shows a sign of life now.
    pub(crate) async fn probe(&self, member: &Member) -> bool {
        let asked = Instant::now();
        let alive = ping_within(self.connect.to(&member.address), member.incarnation, PROBE).await;
        if alive {
            self.heard(member.incarnation)
        } else {
            self.unheard(member.incarnation, asked)
        }
        alive
    }

    /// Asks a silent process for a sign of life, beside what goes on, so that it is asked other things again once it gives one.
    pub(crate) fn recheck(self: &Arc<Self>, member: &Arc<Member>) {
        let due = |silence: &&mut Silence| !silence.probed && silence.last.elapsed() >= PROBE;
        if let Some(silence) = self.silent.lock().get_mut(&member.incarnation).filter(due) {
            silence.probed = true;
        } else {
            return;
        }
        let (peers, member) = (Arc::clone(self), Arc::clone(member));
        tasks::spawn(async move {
            peers.probe(&member).await;
            if let Some(silence) = peers.silent.lock().get_mut(&member.incarnation) {
                silence.probed = false;
            }
        });
    }

    fn heard(&self, incarnation: IncarnationId) {
        let mut silent = self.silent.lock();
        if !silent.is_empty() {
            silent.remove(&incarnation);
        }
    }

    fn unheard(&self, incarnation: IncarnationId, asked: Instant) {
        let (now, mut silent) = (Instant::now(), self.silent.lock());
        silent.retain(|_, silence| now.saturating_duration_since(silence.last) < FORGOTTEN);
        let silence = silent.entry(incarnation).or_insert(Silence { since: asked, last: now, probed: false });
        if asked.saturating_duration_since(silence.last) > UNASKED {
            // It may have been well meanwhile.
            silence.since = asked;
        }
        silence.last = now;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use http::Request;
    use polity_proto::Transport;
    use tokio::{sync::Notify, time::sleep};
    use tonic::transport::Endpoint;
    use tower::service_fn;

    use super::*;
    use crate::{ClusterService, digest::Journal};

    const ASKED: IncarnationId = IncarnationId::new([1; 16]);
    const PATIENCE: Duration = Duration::from_secs(2);

    /// A process that gives signs of life while it is well, and whatever else it is asked it answers never: that connection breaks when
    /// it is told to.
    #[derive(Default)]
    struct Asked {
        ill: AtomicBool,
        breaks: Notify,
    }

    impl Asked {
        fn peers(self: &Arc<Self>) -> Arc<Peers> {
            let (asked, signs) = (Arc::clone(self), ClusterService::new(Journal::new(ASKED)).transport());
            let way = Transport::over(service_fn(move |call: Request<Body>| {
                let (asked, signs) = (Arc::clone(&asked), signs.clone());
                async move {
                    if !call.uri().path().starts_with("/polity.cluster") {
                        asked.breaks.notified().await;
                        return Err(Endpoint::from_shared("no address").expect_err("it is none"));
                    }
                    if asked.ill.load(Ordering::Relaxed) {
                        std::future::pending::<()>().await;
                    }
                    signs.oneshot(call).await
                }
            }));
            Peers::new(Arc::new(move |_: &str| way.clone()))
        }
    }

    async fn a_call() -> (Member, Envelope) {
        let call = Envelope::open(Request::new(Body::empty())).await.expect("a call");
        (Member::new(ASKED, "test", "a", "a:1"), call)
    }

    #[tokio::test(start_paused = true)]
    async fn whose_connection_breaks_after_long_is_silent_only_from_its_last_sign_of_life() {
        let asked = Arc::new(Asked::default());
        let (peers, (member, call)) = (asked.peers(), a_call().await);
        let breaks = async {
            sleep(Duration::from_millis(10_100)).await;
            asked.breaks.notify_one();
        };
        let (called, ()) = tokio::join!(peers.call(&member, &call, PATIENCE), breaks);
        assert!(matches!(called, Called::Unknown(_)), "it may have been carried out");
        assert!(peers.is_silent(ASKED) && peers.silence(ASKED) <= PROBE, "{:?}", peers.silence(ASKED));
    }

    #[tokio::test(start_paused = true)]
    async fn who_misses_a_sign_of_life_is_not_silent_until_it_has_missed_them_for_long() {
        let asked = Arc::new(Asked::default());
        let (peers, (member, call), began) = (asked.peers(), a_call().await, Instant::now());
        let ails = async {
            for (well_s, ill_s) in [(4, 1), (4, 60)] {
                sleep(Duration::from_secs(well_s)).await;
                asked.ill.store(true, Ordering::Relaxed);
                sleep(Duration::from_secs(ill_s)).await;
                asked.ill.store(false, Ordering::Relaxed);
            }
        };
        let called = tokio::select! {
            called = peers.call(&member, &call, PATIENCE) => called,
            () = ails => panic!("it was never given up"),
        };
        assert!(matches!(called, Called::Silent));
        // It was well for nine seconds but for one of them.
        let given_up = began.elapsed();
        assert!((Duration::from_secs(11)..Duration::from_secs(12)).contains(&given_up), "after {given_up:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_counted_while_it_is_asked_and_ends_with_an_answer() {
        let peers = Peers::new(Arc::new(|_: &str| {
            crate::ClusterService::new(crate::digest::Journal::new(IncarnationId::new([0; 16]))).transport()
        }));
        let member = IncarnationId::new([1; 16]);
        let fail = || peers.unheard(member, Instant::now());
        fail();
        assert_eq!((peers.silence(member), peers.is_silent(member)), (Duration::ZERO, true));
        tokio::time::advance(Duration::from_secs(2)).await;
        fail();
        assert_eq!(peers.silence(member), Duration::from_secs(2));
        tokio::time::advance(Duration::from_secs(60)).await;
        fail();
        assert_eq!(peers.silence(member), Duration::ZERO, "nobody asked for a minute");
        peers.heard(member);
        assert!(!peers.is_silent(member));
    }
}
