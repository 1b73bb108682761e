//! The bus by its kind.

use std::{path::PathBuf, sync::Arc, time::Duration};

use polity_bus::{Bus, LocalBus};
use polity_bus_nats::{ConnectError, Credentials, NatsBus, NatsConfig, NatsTls};
use polity_platform::{
    config::{BusKind, Config, Nats},
    lifecycle::{Lifecycle, exit},
};

use tokio::time::Instant;

use crate::{
    failure::Failure,
    wait::{Attempt, until_there},
};

/// A bus that doesn't answer is waited for for so long. It carries hints: a process does without it, and connects once it is there.
const WAITED_FOR: Duration = Duration::from_secs(10);

/// Connects to the bus, and waits for one that is elsewhere; nothing when the process is to end before it is there.
pub(crate) async fn open(config: &Config, name: &str, life: &Lifecycle) -> Result<Option<Arc<dyn Bus>>, Failure> {
    match config.bus.kind {
        BusKind::Embedded => Ok(Some(Arc::new(LocalBus::new()))),
        BusKind::Nats => {
            let (nats, began) = (nats(&config.bus.nats, name), Instant::now());
            let connect = || async {
                let bus = match NatsBus::connect(&nats).await {
                    Err(ConnectError::Connect(error)) if began.elapsed() >= WAITED_FOR => {
                        tracing::warn!(%error, "this process begins without the bus, and connects once it is there");
                        NatsBus::connect_later(&nats).await
                    }
                    tried => tried,
                };
                bus.map_err(|error| match error {
                    ConnectError::Credentials { .. } => Attempt::Never(Failure::new(exit::USAGE, error)),
                    // Who is refused may yet be made known to the server.
                    ConnectError::Connect(_) | ConnectError::Refused(_) => Attempt::later(error),
                })
            };
            let bus = until_there("the bus", &life.stop(), connect).await?;
            Ok(bus.map(|bus| Arc::new(bus) as Arc<dyn Bus>))
        }
    }
}

/// The same in the client's words.
fn nats(config: &Nats, name: &str) -> NatsConfig {
    let given = |path: &PathBuf| (!path.as_os_str().is_empty()).then(|| path.clone());
    let credentials = if let Some(file) = given(&config.credentials_file) {
        Credentials::File(file)
    } else if let Some(token) = config.token.get() {
        Credentials::Token(token.to_owned())
    } else if let Some(password) = config.password.get() {
        Credentials::Password(config.username.clone(), password.to_owned())
    } else {
        Credentials::None
    };
    let ca_file = given(&config.tls_ca);
    NatsConfig {
        urls: config.urls.clone(),
        prefix: config.prefix.clone(),
        name: name.to_owned(),
        credentials,
        tls: NatsTls {
            required: ca_file.is_some(),
            ca_file,
            client: given(&config.tls_cert).zip(given(&config.tls_key)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_process_that_finds_no_bus_begins_without() {
        let mut config = Config::default();
        config.bus.kind = BusKind::Nats;
        config.bus.nats.urls = vec!["nats://127.0.0.1:1".to_owned()];
        let began = Instant::now();
        let bus = open(&config, "test", &Lifecycle::new(Duration::ZERO)).await.unwrap().unwrap();
        assert!((WAITED_FOR..4 * WAITED_FOR).contains(&began.elapsed()), "{:?}", began.elapsed());
        let (subscriptions, _receiver) = bus.receiver(8);
        let asked = Instant::now();
        subscriptions.subscribe(polity_bus::Subject::DIGESTS);
        subscriptions.settled().await;
        assert_eq!(asked.elapsed(), Duration::ZERO, "nobody waits for what can't come");
    }
}
