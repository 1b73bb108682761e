//! What every process answers the others.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use polity_core::IncarnationId;
use polity_proto::{
    Transport,
    cluster::{
        PingRequest, PingResponse, PullRequest, PullResponse,
        cluster_client::ClusterClient,
        cluster_server::{Cluster, ClusterServer},
    },
    local, with_deadline,
};
use tonic::{Code, Request, Response, Status};

use crate::digest::Journal;

/// How long a process may take for an answer that needs neither the store nor anybody else.
pub const CALL_LIMIT: Duration = Duration::from_secs(1);

/// A process's answers to the others.
#[derive(Debug, Clone)]
pub struct ClusterService {
    journal: Arc<Journal>,
}

impl ClusterService {
    /// The answers of the process that keeps this journal.
    #[must_use]
    pub fn new(journal: Arc<Journal>) -> Self {
        Self { journal }
    }

    /// The service, for a server.
    #[must_use]
    pub fn server(self) -> ClusterServer<Self> {
        ClusterServer::new(self)
    }

    /// The service for callers in this process.
    #[must_use]
    pub fn transport(self) -> Transport {
        local(self.server())
    }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn ping(&self, _request: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        let incarnation = Bytes::copy_from_slice(self.journal.incarnation().as_bytes());
        Ok(Response::new(PingResponse { incarnation }))
    }

    async fn pull(&self, request: Request<PullRequest>) -> Result<Response<PullResponse>, Status> {
        Ok(Response::new(self.journal.pulled(request.get_ref().after)))
    }
}

/// Whether `incarnation` is what answers there, or somebody who has too much to do to say who he is.
pub async fn ping(transport: Transport, incarnation: IncarnationId) -> bool {
    ping_within(transport, incarnation, CALL_LIMIT).await
}

/// The same, within a time.
pub(crate) async fn ping_within(transport: Transport, incarnation: IncarnationId, limit: Duration) -> bool {
    let mut client = ClusterClient::new(transport);
    // Whatever stands in the way may not know of deadlines.
    let answer = tokio::time::timeout(limit, client.ping(with_deadline(PingRequest {}, limit))).await;
    match answer {
        Ok(Ok(answer)) => *answer.get_ref().incarnation == incarnation.as_bytes()[..],
        // Whoever has too much to do is there.
        Ok(Err(status)) => status.code() == Code::ResourceExhausted,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_ping_tells_a_run_from_its_successor() {
        let (first, second) = (IncarnationId::new([1; 16]), IncarnationId::new([2; 16]));
        let transport = ClusterService::new(Journal::new(first)).transport();
        assert!(ping(transport.clone(), first).await);
        assert!(!ping(transport, second).await);
    }
}
