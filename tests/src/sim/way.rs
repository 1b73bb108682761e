//! The way of clients to the cluster: each request goes to any process that answers clients, and patience ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use polity_core::tasks;
use tower::ServiceExt as _;

use super::{chance::Chance, cluster::Cluster, nap};
use crate::Way;

/// Nobody waits longer for an answer.
const PATIENCE_MS: (u64, u64) = (1_500, 12_000);

/// See the module.
pub(super) struct SimWay {
    cluster: Arc<Cluster>,
    seed: u64,
    chance: Chance,
    /// How many clients there are.
    count: Arc<AtomicU64>,
}

impl SimWay {
    pub(super) fn new(cluster: Arc<Cluster>, seed: u64) -> Self {
        Self { cluster, seed, chance: Chance::of(seed, "clients"), count: Arc::default() }
    }
}

#[async_trait]
impl Way for SimWay {
    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        nap(self.chance.between(0, 2)).await;
        let number = self.chance.below(u64::MAX);
        let (weather, what) = (&self.cluster.weather, what(&request));
        let Some((process, router, under_way)) = self.cluster.front(number) else {
            weather.count("connections refused");
            nap(self.chance.between(20, 100)).await;
            return Err("refused".to_owned());
        };
        let answered = tasks::spawn_in(&process.owner(), async move {
            let answer = match router.oneshot(request.map(Full::new)).await {
                Ok(answer) => answer,
                Err(never) => match never {},
            };
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
            drop(under_way);
            Ok(Response::from_parts(head, body))
        });
        let hangs_up = answered.abort_handle();
        let patience = Duration::from_millis(self.chance.between(PATIENCE_MS.0, PATIENCE_MS.1));
        let answer = match tokio::time::timeout(patience, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                weather.count("connections broken");
                return Err("the connection broke".to_owned());
            }
            Err(_) => {
                weather.count("requests given up");
                // The process learns of it, or doesn't.
                if self.chance.one_in(2) {
                    hangs_up.abort();
                }
                return Err("patience has ended".to_owned());
            }
        };
        nap(self.chance.between(0, 2)).await;
        if self.chance.per_mille(weather.now(|now| now.answers_lost)) {
            weather.count("answers lost");
            return Err("the answer was lost".to_owned());
        }
        weather.count(if answer.as_ref().is_ok_and(|answer| answer.status().is_success()) { what } else { "refusals" });
        answer
    }

    fn afresh(&self) -> Arc<dyn Way> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let (cluster, count) = (Arc::clone(&self.cluster), Arc::clone(&self.count));
        Arc::new(Self { cluster, seed: self.seed, chance: Chance::of(self.seed, &format!("client {number}")), count })
    }
}

/// What a request asks for, for the figures.
fn what(request: &Request<Bytes>) -> &'static str {
    const KINDS: [(&str, &str); 14] = [
        ("/sync?", "syncs"),
        ("/send/", "sends"),
        ("/redact/", "redactions"),
        ("/join", "joins"),
        ("/leave", "leaves"),
        ("/sendToDevice/", "device messages"),
        ("/keys/upload", "key uploads"),
        ("/keys/claim", "key claims"),
        ("/account_data/", "account data"),
        ("/createRoom", "new rooms"),
        ("/register", "registrations"),
        ("/login", "logins"),
        ("/read_markers", "receipts"),
        ("/messages?", "pages"),
    ];
    let target = request.uri().path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    KINDS.iter().find(|(part, _)| target.contains(part)).map_or("other requests", |(_, what)| what)
}
