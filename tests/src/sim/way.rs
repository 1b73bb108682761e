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
        let Some((process, router)) = self.cluster.front(number) else {
            nap(20).await;
            return Err("refused".to_owned());
        };
        let answered = tasks::spawn_in(&process.owner(), async move {
            let answer = match router.oneshot(request.map(Full::new)).await {
                Ok(answer) => answer,
                Err(never) => match never {},
            };
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
            Ok(Response::from_parts(head, body))
        });
        let hangs_up = answered.abort_handle();
        let patience = Duration::from_millis(self.chance.between(PATIENCE_MS.0, PATIENCE_MS.1));
        let answer = match tokio::time::timeout(patience, answered).await {
            Ok(answer) => answer.map_err(|_| "the connection broke".to_owned())?,
            Err(_) => {
                // The process learns of it, or doesn't.
                if self.chance.one_in(2) {
                    hangs_up.abort();
                }
                return Err("patience has ended".to_owned());
            }
        };
        nap(self.chance.between(0, 2)).await;
        if self.chance.per_mille(self.cluster.weather.now(|now| now.answers_lost)) {
            return Err("the answer was lost".to_owned());
        }
        answer
    }

    fn afresh(&self) -> Arc<dyn Way> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let (cluster, count) = (Arc::clone(&self.cluster), Arc::clone(&self.count));
        Arc::new(Self { cluster, seed: self.seed, chance: Chance::of(self.seed, &format!("client {number}")), count })
    }
}
