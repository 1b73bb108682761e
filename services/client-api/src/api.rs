//! What the endpoints stand on.

use std::sync::Arc;

use polity_accounts::Accounts;
use polity_bus::Bus;
use polity_core::{Clock, Random, TenantId, sync_token::TokenKey};
use polity_store::Store;
use polity_sync::engine::{Engine, Viewer};
use ruma_common::{OwnedServerName, RoomVersionId};

use crate::{ApiError, auth::Requester, directory::Directory, limits::Limits, room_client::RoomClient};

/// A tenant, as the client API knows it.
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its server name.
    pub server_name: OwnedServerName,
    /// Where its clients find it.
    pub public_baseurl: String,
    /// How its sync tokens are sealed.
    pub token_key: Arc<TokenKey>,
}

/// The tenants, found by Host.
pub struct Tenants {
    /// The first one answers for every name that is nobody's.
    pub all: Vec<Arc<Tenant>>,
}

/// The client API.
pub struct Api {
    /// The tenants.
    pub tenants: Tenants,
    /// Users.
    pub accounts: Arc<Accounts>,
    /// Reading, and syncs.
    pub engine: Arc<Engine>,
    /// Room commands.
    pub(crate) rooms: RoomClient,
    /// The store.
    pub store: Arc<dyn Store>,
    /// News.
    pub bus: Arc<dyn Bus>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// The largest body.
    pub max_body_bytes: usize,
    /// The version of new rooms.
    pub default_room_version: RoomVersionId,
    /// Whether anybody may register.
    pub open_registration: bool,
    /// Whoever has it may register users.
    pub shared_secret: Option<String>,
    /// Whether the public list needs no login.
    pub public_list_without_auth: bool,
    /// How often clients may ask.
    pub limits: Limits,
    /// The public rooms, as they were lately.
    pub(crate) directory: Directory,
}

/// What [`Api::new`] needs.
#[expect(missing_docs, reason = "the fields of Api")]
pub struct Parts {
    pub tenants: Tenants,
    pub accounts: Arc<Accounts>,
    pub engine: Arc<Engine>,
    pub rooms: polity_proto::Transport,
    pub bus: Arc<dyn Bus>,
    pub max_body_bytes: usize,
    pub default_room_version: RoomVersionId,
    pub open_registration: bool,
    pub shared_secret: Option<String>,
    pub public_list_without_auth: bool,
    pub limits: Limits,
}

impl Tenants {
    /// The tenant that a request is for.
    pub(crate) fn of_request(&self, parts: &http::request::Parts) -> Result<Arc<Tenant>, ApiError> {
        let header = parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        let host = header.or_else(|| parts.uri.host()).unwrap_or_default();
        let named = self.all.iter().find(|tenant| tenant.server_name == host || of_url(tenant, host));
        named.or_else(|| self.all.first()).cloned().ok_or_else(ApiError::unrecognized)
    }
}

fn of_url(tenant: &Tenant, host: &str) -> bool {
    tenant.public_baseurl.split("://").nth(1).is_some_and(|rest| rest == host)
}

impl Api {
    /// The API.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let engine = &parts.engine;
        Arc::new(Self {
            store: Arc::clone(&engine.store),
            clock: Arc::clone(&engine.clock),
            random: Arc::clone(&engine.random),
            rooms: crate::room_client::over(parts.rooms),
            tenants: parts.tenants,
            accounts: parts.accounts,
            engine: parts.engine,
            bus: parts.bus,
            max_body_bytes: parts.max_body_bytes,
            default_room_version: parts.default_room_version,
            open_registration: parts.open_registration,
            shared_secret: parts.shared_secret,
            public_list_without_auth: parts.public_list_without_auth,
            limits: parts.limits,
            directory: Directory::new(),
        })
    }

    pub(crate) fn viewer(tenant: &Tenant, requester: &Requester) -> Viewer {
        Viewer {
            tenant: tenant.id,
            user_id: requester.user_id.clone(),
            device_id: requester.device_id.clone(),
            device_life: requester.life,
            token_key: Arc::clone(&tenant.token_key),
        }
    }
}
