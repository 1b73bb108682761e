//! The connection, which async-nats makes again when it is lost, and what its loss means to receivers.

use std::{
    path::PathBuf,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event};
use bytes::Bytes;
use parking_lot::Mutex;
use polity_bus::{Bus, Receiver, Subject, Subscriptions};

use crate::{
    config::{Credentials, NatsConfig},
    credentials::{self, User},
    metric,
    publisher::Publisher,
    receiver::{self, Sink},
};

/// The longest pause between two attempts to connect again.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Messages that wait for one receiver's task, per subject, before NATS's client drops them.
const SUBSCRIPTION_CAPACITY: usize = 4096;

/// NATS can't be reached as configured.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No server answers.
    #[error("NATS can't be reached: {0}")]
    Connect(#[source] async_nats::ConnectError),
    /// A server refuses this process.
    #[error("NATS refuses the credentials that bus.nats gives (or needs some, and bus.nats gives none): {0}")]
    Refused(#[source] async_nats::ConnectError),
    /// The credentials file can't be used.
    #[error("bus.nats.credentials_file = {path:?} can't be used: {source}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl From<async_nats::ConnectError> for ConnectError {
    fn from(error: async_nats::ConnectError) -> Self {
        match error.kind() {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => Self::Refused(error),
            _ => Self::Connect(error),
        }
    }
}

/// The bus on NATS.
pub struct NatsBus {
    client: Client,
    prefix: Arc<str>,
    publisher: Publisher,
    sinks: Arc<Sinks>,
}

/// The receivers of this process.
#[derive(Default)]
pub(crate) struct Sinks {
    all: Mutex<Vec<Weak<Sink>>>,
    /// The connection was lost and isn't back, or was never there.
    away: AtomicBool,
}

// === impl NatsBus ===

impl NatsBus {
    /// Connects once; from then on the connection is kept, and made again with pauses of up to 2 s for as long as it takes.
    ///
    /// # Errors
    /// When no server can be reached now: the caller waits and tries again.
    pub async fn connect(config: &NatsConfig) -> Result<Self, ConnectError> {
        Self::begin(config, false).await
    }

    /// The same, without waiting for a server: until one can be reached what is published waits or is lost, and nobody hears anything.
    ///
    /// # Errors
    /// When the configuration can't be used.
    pub async fn connect_later(config: &NatsConfig) -> Result<Self, ConnectError> {
        Self::begin(config, true).await
    }

    async fn begin(config: &NatsConfig, later: bool) -> Result<Self, ConnectError> {
        let sinks = Arc::new(Sinks { away: AtomicBool::new(later), ..Sinks::default() });
        let told = Arc::clone(&sinks);
        let mut options = shown(&config.credentials)
            .await?
            .name(&config.name)
            .subscription_capacity(SUBSCRIPTION_CAPACITY)
            .reconnect_delay_callback(pause)
            .event_callback(move |event| {
                heard(&event, &told);
                std::future::ready(())
            })
            .require_tls(config.tls.required);
        // These files, too, are read for each connection.
        if let Some(ca) = &config.tls.ca_file {
            options = options.add_root_certificates(ca.clone());
        }
        if let Some((certificate, key)) = &config.tls.client {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        if later {
            options = options.retry_on_initial_connect();
        }
        let client = options.connect(config.urls.clone()).await?;
        metrics::gauge!(metric::CONNECTED).set(if later { 0.0 } else { 1.0 });
        let prefix: Arc<str> = config.prefix.as_str().into();
        Ok(Self { publisher: Publisher::start(client.clone(), Arc::clone(&prefix)), client, prefix, sinks })
    }
}

impl Bus for NatsBus {
    fn publish(&self, subject: Subject, payload: Bytes) {
        self.publisher.publish(subject, payload);
    }

    fn receiver(&self, capacity: usize) -> (Box<dyn Subscriptions>, Box<dyn Receiver>) {
        let (subscriptions, receiver, sink) =
            receiver::make(self.client.clone(), Arc::clone(&self.prefix), &self.sinks, capacity);
        self.sinks.add(&sink);
        (Box::new(subscriptions), Box::new(receiver))
    }
}

// === impl Sinks ===

impl Sinks {
    fn add(&self, sink: &Arc<Sink>) {
        let mut all = self.all.lock();
        all.retain(|sink| sink.strong_count() > 0);
        all.push(Arc::downgrade(sink));
    }

    /// Whether there is no connection, as far as is known.
    pub(crate) fn are_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Tells every receiver that it may have lost something.
    fn lost(&self) {
        self.all.lock().iter().filter_map(Weak::upgrade).for_each(|sink| sink.lost());
    }
}

/// Options under which a process shows who it is.
async fn shown(credentials: &Credentials) -> Result<ConnectOptions, ConnectError> {
    let options = ConnectOptions::new();
    Ok(match credentials {
        Credentials::None => options,
        Credentials::Password(user, password) => options.user_and_password(user.clone(), password.clone()),
        Credentials::Token(token) => options.token(token.clone()),
        Credentials::File(path) => {
            let unusable = |source| ConnectError::Credentials { path: path.clone(), source };
            // A file that can't be used at the start is a mistake in the configuration.
            User::read(path).await.map_err(unusable)?;
            let path = path.clone();
            ConnectOptions::with_auth_callback(move |nonce| credentials::answer(path.clone(), nonce))
        }
    })
}

fn heard(event: &Event, sinks: &Sinks) {
    match event {
        Event::Connected => {
            metrics::gauge!(metric::CONNECTED).set(1.0);
            tracing::info!("connected to NATS");
            // Of the first connection, too, one hears late.
            if sinks.away.swap(false, Ordering::Relaxed) {
                metrics::counter!(metric::RECONNECTS).increment(1);
                // Whatever was published in between is lost.
                sinks.lost();
            }
        }
        Event::Disconnected => {
            metrics::gauge!(metric::CONNECTED).set(0.0);
            sinks.away.store(true, Ordering::Relaxed);
            tracing::warn!("the connection to NATS is lost; it is made again");
        }
        Event::SlowConsumer(_) => sinks.lost(),
        other => tracing::debug!(event = %other, "NATS"),
    }
}

/// How long to wait before the next attempt to connect: doubling from 50 ms.
fn pause(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts).unwrap_or(u32::MAX).min(10);
    LONGEST_PAUSE.min(Duration::from_millis(50) * 2_u32.pow(doublings))
}
