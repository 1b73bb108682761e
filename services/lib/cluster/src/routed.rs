//! The way to a tier of several processes: each call goes to the process that ranks first for what it is about.

use std::{sync::Arc, time::Duration};

use http::{Request, Response};
use polity_core::RetryBudget;
use polity_proto::{Status, Transport, route};
use tonic::body::Body;
use tower::service_fn;

use crate::{Live, Member, Peers, envelope::Envelope, metric, peers::Called};

/// A process that shows no sign of life for so long is left for the next one, by calls that may be carried out twice.
const PATIENCE: Duration = Duration::from_secs(1);
/// Processes that one call is taken to.
const TRIES: usize = 4;
/// Tenths of a retry for each call.
const RETRIED: u32 = 1;

/// See the module.
pub struct Routed {
    live: Arc<Live>,
    peers: Arc<Peers>,
    kind: &'static str,
    budget: RetryBudget,
}

impl Routed {
    /// The way to those processes that serve what `kind` serves. Calls say what they are about in [`route::ROUTE`].
    #[must_use]
    pub fn transport(live: Arc<Live>, peers: Arc<Peers>, kind: &'static str) -> Transport {
        let routed = Arc::new(Self { live, peers, kind, budget: RetryBudget::earning(RETRIED) });
        Transport::new(service_fn(move |call| {
            let routed = Arc::clone(&routed);
            async move { Ok(routed.call(call).await.unwrap_or_else(Status::into_http)) }
        }))
    }

    async fn call(&self, call: Request<Body>) -> Result<Response<Body>, Status> {
        let envelope = Envelope::open(call).await?;
        envelope.in_time(self.taken_to_one(&envelope)).await
    }

    /// Takes a call to one process after the other while it surely wasn't begun, or may be carried out twice.
    async fn taken_to_one(&self, envelope: &Envelope) -> Result<Response<Body>, Status> {
        let repeatable = envelope.says(route::REPEATABLE).is_some();
        let members = self.order(envelope.says(route::ROUTE).unwrap_or_default());
        self.budget.earn();
        let mut last = Status::unavailable(format!("no {} is there", self.kind));
        for (tried, member) in members.iter().take(TRIES).enumerate() {
            if tried > 0 {
                if !self.budget.take() {
                    metrics::counter!(metric::RETRIES, "outcome" => "refused").increment(1);
                    break;
                }
                metrics::counter!(metric::RETRIES, "outcome" => "tried").increment(1);
            }
            // Whoever is alone is waited for.
            let patience = if repeatable && members.len() > 1 { PATIENCE } else { Duration::MAX };
            match self.peers.call(member, envelope, patience).await {
                Called::Answered(answer) => return Ok(answer),
                Called::NotStarted(status) => last = status,
                Called::Unknown(status) if repeatable => last = status,
                Called::Unknown(status) => return Err(status),
                Called::Silent => last = Status::unavailable("a process is silent"),
            }
        }
        Err(last)
    }

    /// Whom to ask, one after the other: those last that didn't answer what they were asked.
    fn order(&self, key: &str) -> Vec<Arc<Member>> {
        let mut members = self.live.ranked(self.kind, key);
        let silent = |member: &Arc<Member>| self.peers.is_silent(member.incarnation);
        members.iter().filter(|member| silent(member)).for_each(|member| self.peers.recheck(member));
        members.sort_by_key(silent);
        members
    }
}
