//! What the endpoints stand on.

use std::{collections::HashMap, sync::Arc};

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
    /// By server name and by the authority of their address, in lower case.
    by_host: HashMap<String, Arc<Tenant>>,
    /// Where there is one tenant only, it answers for every name: nobody else's could be meant.
    only: Option<Arc<Tenant>>,
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
    /// These tenants. Of two with one address the first is found by it.
    pub fn new(tenants: impl IntoIterator<Item = Arc<Tenant>>) -> Self {
        let (mut by_host, mut all) = (HashMap::new(), Vec::new());
        for tenant in tenants {
            // A server name is nobody else's, whatever the addresses say.
            by_host.insert(tenant.server_name.as_str().to_ascii_lowercase(), Arc::clone(&tenant));
            all.push(tenant);
        }
        for tenant in &all {
            let url = tenant.public_baseurl.parse::<http::Uri>().ok();
            // An address without authority is nobody's: by an empty one whoever names no host would be served.
            if let Some(authority) = url.as_ref().and_then(http::Uri::authority).filter(|name| !name.host().is_empty())
            {
                let authority = authority.as_str().to_ascii_lowercase();
                by_host.entry(authority).or_insert_with(|| Arc::clone(tenant));
            }
        }
        let only = if let [only] = &all[..] { Some(Arc::clone(only)) } else { None };
        Self { by_host, only }
    }

    /// The tenant that a request is for. With more than one, a name that is nobody's is refused: whoever answered for it could be
    /// told another tenant's passwords, or give out its own rooms under another name.
    /// So is a request with several names, of which a proxy might have looked at another one (RFC 9112, section 3.2).
    pub(crate) fn of_request(&self, parts: &http::request::Parts) -> Result<Arc<Tenant>, ApiError> {
        if parts.headers.get_all(http::header::HOST).iter().nth(1).is_some() {
            return Err(ApiError::invalid_param("there is more than one Host"));
        }
        if let Some(only) = &self.only {
            return Ok(Arc::clone(only));
        }
        let header = || parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        // What HTTP/2 and a proxy's request name stands in the target, and goes before the header (RFC 9112, section 3.2.2).
        let host = parts.uri.authority().map(http::uri::Authority::as_str).or_else(header).unwrap_or_default();
        let host = host.to_ascii_lowercase();
        let without_port = || host.rsplit_once(':').and_then(|(name, _)| self.by_host.get(name));
        let found = self.by_host.get(&host).or_else(without_port);
        found.cloned().ok_or_else(|| ApiError::not_found("there is no server of that name here"))
    }
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
        let device = (requester.device_id.clone(), requester.life);
        Viewer::new(tenant.id, requester.user_id.clone(), device, Arc::clone(&tenant.token_key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str, url: &str) -> Arc<Tenant> {
        let id = TenantId::new(u64::from(name.as_bytes()[0]));
        let server_name = name.try_into().unwrap();
        let token_key = Arc::new(TokenKey::derive(b"secret", id));
        Arc::new(Tenant { id, server_name, public_baseurl: url.to_owned(), token_key })
    }

    fn found(tenants: &Tenants, uri: &str, host: Option<&str>) -> Option<String> {
        let mut request = http::Request::get(uri);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        tenants.of_request(&parts).ok().map(|tenant| tenant.server_name.to_string())
    }

    #[test]
    fn a_host_picks_its_tenant_and_a_stranger_none() {
        let tenants = [tenant("a.test", "https://matrix.a.test/"), tenant("b.test", "http://127.0.0.1:8008")];
        let two = Tenants::new(tenants.clone());
        for (host, name) in [
            ("a.test", Some("a.test")),
            ("A.Test:8448", Some("a.test")),
            ("matrix.a.test", Some("a.test")),
            ("matrix.a.test:443", Some("a.test")),
            ("b.test", Some("b.test")),
            ("127.0.0.1:8008", Some("b.test")),
            ("127.0.0.1", None),
            ("c.test", None),
            ("", None),
            ("a.test.evil.test", None),
        ] {
            assert_eq!(found(&two, "/", Some(host)).as_deref(), name, "{host}");
        }
        assert_eq!(found(&two, "/", None), None);
        for url in ["c.test", "", "https://", "/_matrix"] {
            let three = Tenants::new(tenants.iter().cloned().chain([tenant("c.test", url)]));
            assert_eq!((found(&three, "/", None), found(&three, "/", Some(""))), (None, None), "{url}");
            assert_eq!(found(&three, "/", Some("c.test")).as_deref(), Some("c.test"));
        }
        let twice = http::Request::get("/").header("host", "a.test").header("host", "b.test");
        let twice = twice.body(()).unwrap().into_parts().0;
        assert!(two.of_request(&twice).is_err(), "whichever a proxy looked at");
        assert_eq!(found(&two, "http://b.test/", Some("a.test")).as_deref(), Some("b.test"));
        let one = Tenants::new(tenants.into_iter().take(1));
        assert_eq!(found(&one, "/", Some("c.test")).as_deref(), Some("a.test"));
    }
}
