//! The bus by its kind.

use std::{path::PathBuf, sync::Arc};

use polity_bus::{Bus, LocalBus};
use polity_bus_nats::{ConnectError, Credentials, NatsBus, NatsConfig, NatsTls};
use polity_platform::{
    config::{BusKind, Config, Nats},
    lifecycle::{Lifecycle, exit},
};

use crate::{
    failure::Failure,
    wait::{Attempt, until_there},
};

/// Connects to the bus, and waits for one that is elsewhere; nothing when the process is to end before it is there.
pub(crate) async fn open(config: &Config, name: &str, life: &Lifecycle) -> Result<Option<Arc<dyn Bus>>, Failure> {
    match config.bus.kind {
        BusKind::Embedded => Ok(Some(Arc::new(LocalBus::new()))),
        BusKind::Nats => {
            let nats = nats(&config.bus.nats, name);
            let connect = || async {
                NatsBus::connect(&nats).await.map_err(|error| match error {
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
