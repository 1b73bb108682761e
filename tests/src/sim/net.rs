//! The ways between processes: calls take time, processes don't reach each other for a while, or end while they are asked.

use std::{collections::BTreeMap, convert::Infallible, io, sync::Arc};

use http::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use polity_core::tasks;
use polity_proto::{Transport, remote, route};
use tokio::io::DuplexStream;
use tonic::{
    body::Body,
    transport::{Channel, Endpoint},
};
use tower::{ServiceExt as _, service_fn};

use super::{chance::Chance, later, nap, process::Process, weather::Weather};

tokio::task_local! {
    /// This task answers a call that was handed on.
    static HANDED_ON: ();
}

/// See the module.
pub(super) struct Net {
    pub(super) weather: Arc<Weather>,
    chance: Chance,
    doors: Mutex<BTreeMap<String, Door>>,
    /// Where nobody listens, and where the connection breaks once a call is under way.
    refused: Channel,
    broken: Channel,
}

/// Where a process answers.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) node: usize,
    /// Its process is of the next version.
    pub(super) next: bool,
    pub(super) process: Arc<Process>,
    pub(super) service: Transport,
}

impl Net {
    pub(super) fn new(weather: Arc<Weather>, chance: Chance) -> Arc<Self> {
        let refused = service_fn(|_: Uri| async {
            Err::<TokioIo<DuplexStream>, _>(io::Error::from(io::ErrorKind::ConnectionRefused))
        });
        let broken = service_fn(|_: Uri| async { Ok::<_, Infallible>(TokioIo::new(tokio::io::duplex(64).0)) });
        let nowhere = Endpoint::from_static("http://simulated");
        Arc::new(Self {
            weather,
            chance,
            doors: Mutex::default(),
            refused: nowhere.connect_with_connector_lazy(refused),
            broken: nowhere.connect_with_connector_lazy(broken),
        })
    }

    /// A process answers at this address from now on.
    pub(super) fn open(&self, address: &str, door: Door) {
        self.doors.lock().insert(address.to_owned(), door);
    }

    /// Nobody does.
    pub(super) fn close(&self, address: &str) {
        self.doors.lock().remove(address);
    }

    /// The way from a node, whose process is of the next version or not, to an address.
    pub(super) fn way(self: &Arc<Self>, from: usize, next: bool, address: &str) -> Transport {
        let (net, address) = (Arc::clone(self), address.to_owned());
        Transport::over(service_fn(move |call: Request<Body>| {
            let (net, address) = (Arc::clone(&net), address.clone());
            let call = if next { call.map(later::body) } else { call };
            async move { net.bring(from, &address, call).await }
        }))
    }

    async fn bring(
        &self,
        from: usize,
        address: &str,
        call: Request<Body>,
    ) -> Result<Response<Body>, tonic::transport::Error> {
        self.weather.count("calls");
        let handed_on = call.headers().contains_key(route::FORWARDED);
        if handed_on && HANDED_ON.try_with(|()| ()).is_ok() {
            self.weather.wrong(format!("{} was handed on, and is handed on again", call.uri().path()));
        }
        self.trip().await;
        let Some(Door { node, next, process, service }) = self.doors.lock().get(address).cloned() else {
            return remote(self.refused.clone()).oneshot(call).await;
        };
        self.reaches(from, node).await;
        let answered = service.oneshot(call);
        let answered = match handed_on {
            true => tasks::spawn_in(&process.owner(), HANDED_ON.scope((), answered)),
            false => tasks::spawn_in(&process.owner(), answered),
        };
        let answer = answered.await;
        self.trip().await;
        self.reaches(from, node).await;
        match answer {
            Ok(answer) if next => answer.map(|answer| answer.map(later::body)),
            Ok(answer) => answer,
            // It has ended meanwhile. The call itself is gone.
            Err(_) => {
                self.weather.count("calls broken");
                remote(self.broken.clone()).oneshot(Request::new(Body::empty())).await
            }
        }
    }

    /// Whoever isn't reached isn't heard of: only whoever asks gives up.
    async fn reaches(&self, from: usize, to: usize) {
        if self.weather.now(|now| now.apart.contains(&(from.min(to), from.max(to)))) {
            self.weather.count("calls lost");
            std::future::pending::<()>().await;
        }
    }

    async fn trip(&self) {
        let most = self.weather.now(|now| now.calls_ms);
        nap(if self.chance.one_in(2) { 0 } else { self.chance.between(0, most) }).await;
    }
}

#[cfg(test)]
mod tests {
    use polity_proto::never_began;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn callers_can_tell_what_never_began_from_what_may_have_been_done() {
        let net = Net::new(Arc::new(Weather::untold()), Chance::of(1, "net"));
        let call = || Request::new(Body::empty());
        let refused = net.way(0, false, "nobody:1").oneshot(call()).await.unwrap_err();
        assert!(never_began(&refused), "{refused:?}");
        let process = Process::new(
            "a".into(),
            Arc::new(Weather::untold()),
            super::super::clock::SimClock::new(tokio::time::Instant::now(), 0),
            (Chance::of(1, "a"), 0),
        );
        let ends = Arc::clone(&process);
        let service = Transport::new(service_fn(move |_| {
            ends.kill();
            std::future::pending()
        }));
        net.open("a:1", Door { node: 1, next: false, process, service });
        let broken = net.way(0, false, "a:1").oneshot(call()).await.unwrap_err();
        assert!(!never_began(&broken), "{broken:?}");
    }
}
