//! The tenants: the one that the configuration names, with its signing key in the data folder, and those that were made beside it,
//! which stand in the store with theirs. Processes that share a store find all keys there.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use polity_client_api as client_api;
use polity_core::{Clock, LogId, Random, SystemClock, SystemRandom, TenantId, sync_token::TokenKey};
use polity_platform::{
    config::{Config, StoreKind, is_base_url},
    lifecycle::{Lifecycle, exit},
};
use polity_room_engine::build::SigningIdentity;
use polity_room_state as room_state;
use polity_store::{
    Store,
    tenants::{self as stored, StoredKey, StoredTenant},
};
use ruma_common::OwnedServerName;

use crate::{failure::Failure, store, wait::Attempt};

const DAMAGED_KEY: &str = "the signing key is damaged; restore it from a backup";

/// A tenant with its key.
pub(crate) struct Tenant {
    id: TenantId,
    identity: SigningIdentity,
    seed: [u8; 32],
    public_baseurl: String,
}

/// All of them.
pub(crate) struct Tenants(Vec<Arc<Tenant>>);

impl room_state::Tenant for Tenant {
    fn identity(&self) -> &SigningIdentity {
        &self.identity
    }
}

impl room_state::Tenants for Tenants {
    fn tenant(&self, id: TenantId) -> Option<Arc<dyn room_state::Tenant>> {
        self.0.iter().find(|tenant| tenant.id == id).map(|tenant| Arc::clone(tenant) as _)
    }
}

impl Tenant {
    /// The tenant of the configuration, with a key.
    fn configured(config: &Config, key: StoredKey) -> Result<StoredTenant, Failure> {
        let server_name = OwnedServerName::try_from(config.server_name.as_str())
            .map_err(|error| Failure::new(exit::USAGE, format!("server_name: {error}")))?;
        // Derived from the name, so that a data folder without a list of tenants finds its own again.
        let id = LogId::derived(TenantId::new(0), "tenant", &config.server_name);
        let id = id.as_bytes().iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte));
        Ok(StoredTenant { id: TenantId::new(id), server_name, public_baseurl: config.base_url(), key })
    }

    fn new(tenant: StoredTenant) -> Result<Self, Failure> {
        let StoredTenant { id, server_name, public_baseurl, key: StoredKey { version, seed } } = tenant;
        let identity = SigningIdentity::from_seed(server_name, &version, &seed).map_err(Failure::software)?;
        Ok(Self { id, identity, seed, public_baseurl })
    }
}

impl Tenants {
    /// All of them, the configured one first.
    pub(crate) async fn load(config: &Config, store: &dyn Store, random: &dyn Random) -> Result<Self, Attempt> {
        let mut stored = stored::all(store).await?;
        let named = stored.iter().position(|tenant| tenant.server_name.as_str() == config.server_name);
        let named = named.map(|at| stored.swap_remove(at));
        let configured = if config.store.kind == StoreKind::Cql {
            let tenant = match named {
                Some(tenant) => tenant,
                None => first_of_a_cluster(config, store, random).await?,
            };
            StoredTenant { public_baseurl: config.base_url(), ..tenant }
        } else {
            let (version, seed) = signing_key(&config.data_dir, random)?;
            Tenant::configured(config, StoredKey { version, seed })?
        };
        stored.sort_by(|a, b| a.server_name.cmp(&b.server_name));
        let all = std::iter::once(configured).chain(stored).map(|tenant| Ok(Arc::new(Tenant::new(tenant)?)));
        Ok(Self(all.collect::<Result<_, Failure>>()?))
    }

    /// As the client API knows them.
    pub(crate) fn for_clients(&self) -> client_api::Tenants {
        let known = |tenant: &Arc<Tenant>| {
            Arc::new(client_api::Tenant {
                id: tenant.id,
                server_name: tenant.identity.server_name().clone(),
                public_baseurl: tenant.public_baseurl.clone(),
                token_key: Arc::new(TokenKey::derive(&tenant.seed, tenant.id)),
            })
        };
        client_api::Tenants::new(self.0.iter().map(known))
    }
}

/// The configured tenant of processes that share a store, whose key stands in the store: whoever comes first makes it.
async fn first_of_a_cluster(config: &Config, store: &dyn Store, random: &dyn Random) -> Result<StoredTenant, Attempt> {
    let tenant = Tenant::configured(config, StoredKey { version: random.alphanumeric(6), seed: random.bytes() })?;
    if stored::create(store, &tenant).await? {
        tracing::info!(name = %tenant.server_name, "the first tenant is made");
        return Ok(tenant);
    }
    let all = stored::all(store).await?;
    let made = all.into_iter().find(|other| other.server_name == tenant.server_name);
    made.ok_or_else(|| Attempt::later("the first tenant was made by another process, and isn't seen yet"))
}

/// Makes a tenant beside the configured one.
pub(crate) async fn create(config: &Config, name: &str, public_baseurl: Option<&str>) -> Result<(), Failure> {
    let server_name = OwnedServerName::try_from(name)
        .map_err(|error| Failure::new(exit::USAGE, format!("{name:?} is no server name: {error}")))?;
    // Hosts are the same in both cases, so there must be one way only to write a name that the store keeps.
    if name.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(Failure::new(exit::USAGE, format!("{name:?}: a server's name is written in lower case")));
    }
    let taken = || Failure::new(exit::USAGE, format!("there is a tenant {name} already"));
    if name.eq_ignore_ascii_case(&config.server_name) {
        return Err(taken());
    }
    let public_baseurl = public_baseurl.map_or_else(|| format!("https://{name}"), str::to_owned);
    if !is_base_url(&public_baseurl) {
        return Err(Failure::new(exit::USAGE, format!("{public_baseurl:?} is no http or https address")));
    }
    let random: &dyn Random = &SystemRandom;
    let key = StoredKey { version: random.alphanumeric(6), seed: random.bytes() };
    let id = TenantId::new(u64::from_le_bytes(random.bytes()));
    let tenant = StoredTenant { id, server_name, public_baseurl, key };
    let (clock, life): (Arc<dyn Clock>, _) = (Arc::new(SystemClock::new()), Lifecycle::new(Duration::ZERO));
    let opened = store::open(config, &clock, random, &life).await?;
    let Some(store) = opened else { return Err(Failure::software("the store isn't there")) };
    if stored::create(&*store, &tenant).await? { Ok(()) } else { Err(taken()) }
}

/// The key's version and seed, from `signing.key` (`ed25519 VERSION SEED`); made at the first start, readable by its owner only.
fn signing_key(folder: &Path, random: &dyn Random) -> Result<(String, [u8; 32]), Failure> {
    let path = folder.join("signing.key");
    let failed = |code, what: &dyn std::fmt::Display| Failure::new(code, format!("{}: {what}", path.display()));
    match fs::read_to_string(&path) {
        Ok(text) => parse(&text).ok_or_else(|| failed(exit::DAMAGED, &DAMAGED_KEY)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(failed(exit::DAMAGED, &DAMAGED_KEY)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (version, seed) = (random.alphanumeric(6), random.bytes());
            let text = format!("ed25519 {version} {}\n", STANDARD_NO_PAD.encode(seed));
            write_new(folder, &path, &text).map_err(|error| failed(exit::CANT_CREATE, &error))?;
            Ok((version, seed))
        }
        Err(error) => Err(failed(exit::CANT_CREATE, &error)),
    }
}

/// Whole or not at all: a half-written key would be taken for a damaged one.
fn write_new(folder: &Path, path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("key.new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    fs::File::open(folder)?.sync_all()
}

fn parse(text: &str) -> Option<(String, [u8; 32])> {
    let mut parts = text.split_whitespace();
    let (algorithm, version, seed) = (parts.next()?, parts.next()?, parts.next()?);
    let seed = STANDARD_NO_PAD.decode(seed).ok()?.try_into().ok()?;
    (algorithm == "ed25519").then(|| (version.to_owned(), seed))
}
