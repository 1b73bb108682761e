//! Opening the store: a session, the keyspace with its tables, what the cluster has agreed on.

use std::{sync::Arc, time::Duration};

use polity_core::{Clock, IncarnationId, Random};
use scylla::{
    client::{execution_profile::ExecutionProfile, session::Session, session_builder::SessionBuilder},
    errors::NewSessionError,
    policies::{
        load_balancing::DefaultPolicy, retry::FallthroughRetryPolicy,
        speculative_execution::SimpleSpeculativeExecutionPolicy,
    },
};

use crate::{
    agreed,
    config::{Consistencies, CqlConfig},
    keyspace::{self, Refused},
    page::RowSizes,
    schema::Schema,
    statements::Statements,
    store::Monotonic,
};

/// A read that isn't answered within this time is also asked of another replica.
const SECOND_ASKED_AFTER: Duration = Duration::from_millis(100);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No node answers, or none lets this process in. Worth another try.
    #[error("no CQL node can be reached: {0}")]
    Unreachable(#[source] Box<NewSessionError>),
    /// A statement of the opening failed. Worth another try.
    #[error("the CQL store can't be made ready: {0}")]
    NotReady(String),
    /// The server or the keyspace isn't fit: an operator has to do something.
    #[error("{0}")]
    Refused(#[from] Refused),
}

/// The store on CQL.
pub struct CqlStore {
    pub(crate) session: Session,
    pub(crate) keyspace: String,
    pub(crate) schema: Schema,
    pub(crate) statements: Statements,
    pub(crate) levels: Consistencies,
    pub(crate) incarnation: IncarnationId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) times: Monotonic,
    pub(crate) row_sizes: RowSizes,
}

// === impl CqlStore ===

impl CqlStore {
    /// Connects, makes keyspace and tables where they are missing, and takes the cluster's agreements from it.
    ///
    /// # Errors
    /// [`OpenError::Refused`] is final; after the others the caller waits and tries again.
    pub async fn open(config: &CqlConfig, clock: Arc<dyn Clock>, random: &dyn Random) -> Result<Arc<Self>, OpenError> {
        let session = session(config).await?;
        let server = keyspace::check_server(&session).await?;
        let made = keyspace::make(&session, config).await?;
        tracing::info!(%server, made = made.len(), "the CQL store");
        // Until the agreement is read everybody asks all datacentres, whatever the own file says.
        let mut store = Self {
            statements: Statements::new(&config.keyspace, Consistencies::AcrossDatacenters),
            session,
            keyspace: config.keyspace.clone(),
            schema: config.schema,
            levels: Consistencies::AcrossDatacenters,
            incarnation: IncarnationId::new([0; 16]),
            clock,
            times: Monotonic::default(),
            row_sizes: RowSizes::default(),
        };
        let proposed = Consistencies::of_replication(&config.replication);
        let agreed = agreed::agree(&store, proposed, random).await?;
        store.incarnation = agreed.incarnation;
        store.levels = agreed.levels;
        store.statements = Statements::new(&config.keyspace, agreed.levels);
        Ok(Arc::new(store))
    }
}

/// A session: local nodes first, nothing tried again by itself but what is idempotent.
pub(crate) async fn session(config: &CqlConfig) -> Result<Session, OpenError> {
    let local = DefaultPolicy::builder()
        .prefer_datacenter(config.local_datacenter.clone())
        .token_aware(true)
        .permit_dc_failover(true)
        .build();
    let profile = ExecutionProfile::builder()
        .load_balancing_policy(local)
        .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
        .speculative_execution_policy(Some(Arc::new(SimpleSpeculativeExecutionPolicy {
            max_retry_count: 1,
            retry_interval: SECOND_ASKED_AFTER,
        })))
        .request_timeout(Some(config.timeout))
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&config.contact_points)
        .default_execution_profile_handle(profile.into_handle())
        .connection_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .fetch_schema_metadata(true)
        .tls_context(config.tls.clone());
    if let Some((user, password)) = &config.credentials {
        builder = builder.user(user, password);
    }
    builder.build().await.map_err(|error| OpenError::Unreachable(Box::new(error)))
}
