//! Whether the store answers: a process whose store is gone isn't ready, and is again when it comes back.

use std::{sync::Arc, time::Duration};

use polity_core::tasks;
use polity_platform::ops::Ready;
use polity_store::{Consistency, Store, Values, life, schema, values_of};
use tokio_util::sync::CancellationToken;

/// How often the store is asked, and how long it may take.
const ASKED: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(2);
/// One answer that is missing may be a restart of one of the store's nodes.
const MISSED: u32 = 2;

/// Asks a shared store until `stop`.
pub(crate) fn watch(store: Arc<dyn Store>, ready: &Ready, stop: CancellationToken) {
    let component = ready.component("store");
    tasks::spawn(async move {
        let mut missed = 0;
        loop {
            let asked = store.get(&schema::META, values_of![life::LIFE], Values::new(), Consistency::Quorum);
            let answered = match tokio::time::timeout(PATIENCE, asked).await {
                Ok(answer) => answer.map(drop).map_err(|error| error.to_string()),
                Err(_) => Err(format!("no answer within {PATIENCE:?}")),
            };
            match answered {
                Ok(()) => {
                    if missed >= MISSED {
                        tracing::info!("the store answers again");
                    }
                    missed = 0;
                    component.set(true);
                }
                Err(reason) => {
                    missed += 1;
                    if missed == MISSED {
                        tracing::error!(%reason, "the store doesn't answer: this process isn't ready until it does");
                        component.set(false);
                    }
                }
            }
            if tokio::time::timeout(ASKED, stop.cancelled()).await.is_ok() {
                return;
            }
        }
    });
}
