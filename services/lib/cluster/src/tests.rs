//! Processes that answer as a test wants it, and the ways between them.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use parking_lot::Mutex;
use polity_core::IncarnationId;
use polity_proto::{
    Status, Transport,
    cluster::{PingRequest, PingResponse, cluster_client::ClusterClient},
    route, with_deadline,
};
use tonic::body::Body;
use tower::{ServiceExt, service_fn};

use crate::{ClusterService, Live, Member, Peers, Routed, digest::Journal, kind::ROOM_STATE};

mod routed;
mod watch;

/// How a process answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Well,
    /// It is stopped.
    Hangs,
    /// It is alive, and takes so many milliseconds for everything but signs of life.
    Slow(u64),
    NotServing,
    Overloaded,
    /// It has tried, in vain.
    Failing,
}

struct Process {
    member: Member,
    mode: Mutex<Mode>,
    /// Calls beside signs of life.
    calls: AtomicU64,
}

impl Process {
    fn new(n: u8) -> Arc<Self> {
        let member = Member::new(IncarnationId::new([n; 16]), ROOM_STATE, &n.to_string(), &n.to_string());
        Arc::new(Self { member, mode: Mutex::new(Mode::Well), calls: AtomicU64::new(0) })
    }

    fn is(&self, mode: Mode) {
        *self.mode.lock() = mode;
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Every call is one of its kind: a ping about something. Those without a route are signs of life.
    async fn answer(self: Arc<Self>, call: Request<Body>) -> Response<Body> {
        let sign_of_life = !call.headers().contains_key(route::ROUTE);
        let mode = *self.mode.lock();
        if !sign_of_life {
            self.calls.fetch_add(1, Ordering::Relaxed);
        }
        match mode {
            Mode::Hangs => std::future::pending().await,
            Mode::Slow(ms) if !sign_of_life => tokio::time::sleep(Duration::from_millis(ms)).await,
            Mode::NotServing if !sign_of_life => {
                return route::not_started(Status::unavailable("not serving"), None).into_http();
            }
            Mode::Overloaded if !sign_of_life => return Status::resource_exhausted("a full mailbox").into_http(),
            Mode::Failing if !sign_of_life => return Status::unavailable("the store is gone").into_http(),
            _ => {}
        }
        ClusterService::new(Journal::new(self.member.incarnation)).transport().oneshot(call).await.unwrap()
    }
}

/// Some processes, as one more sees them.
struct Stage {
    processes: HashMap<String, Arc<Process>>,
    live: Arc<Live>,
    way: Transport,
}

fn stage(count: u8) -> Stage {
    let processes: HashMap<String, Arc<Process>> = (1..=count).map(|n| (n.to_string(), Process::new(n))).collect();
    let live = Live::new(IncarnationId::new([99; 16]));
    live.stored(&processes.values().map(|process| process.member.clone()).collect::<Vec<_>>());
    let known = processes.clone();
    let connect = move |address: &str| {
        let process = Arc::clone(&known[address]);
        Transport::new(service_fn(move |call| {
            let process = Arc::clone(&process);
            async move { Ok(process.answer(call).await) }
        }))
    };
    let way = Routed::transport(Arc::clone(&live), Peers::new(Arc::new(connect)), ROOM_STATE);
    Stage { processes, live, way }
}

impl Stage {
    /// The processes in the order in which they are asked about a room.
    fn ranked(&self, room: &str) -> Vec<Arc<Process>> {
        let members = self.live.ranked(ROOM_STATE, &route::room(7, room));
        members.iter().map(|member| Arc::clone(&self.processes[&*member.address])).collect()
    }

    /// Who answers a call about a room.
    async fn ask(&self, room: &str, repeatable: bool, limit: Duration) -> Result<IncarnationId, Status> {
        let call = route::routed(with_deadline(PingRequest {}, limit), &route::room(7, room), repeatable);
        let answer: PingResponse = ClusterClient::new(self.way.clone()).ping(call).await?.into_inner();
        Ok(IncarnationId::from_slice(&answer.incarnation).unwrap())
    }
}
