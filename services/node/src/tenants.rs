//! The tenants: for now the one that the configuration names, with its signing key in the data folder.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use polity_client_api as client_api;
use polity_core::{LogId, Random, TenantId, sync_token::TokenKey};
use polity_platform::{config::Config, lifecycle::exit};
use polity_room_engine::build::SigningIdentity;
use polity_room_state as room_state;
use ruma_common::OwnedServerName;

use crate::failure::Failure;

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

impl Tenants {
    /// The tenant of the configuration.
    pub(crate) fn load(config: &Config, random: &dyn Random) -> Result<Self, Failure> {
        let server_name = OwnedServerName::try_from(config.server_name.as_str())
            .map_err(|error| Failure::new(exit::USAGE, format!("server_name: {error}")))?;
        let (version, seed) = signing_key(&config.data_dir, random)
            .map_err(|error| Failure::new(exit::CANT_CREATE, format!("{}: {error}", config.data_dir.display())))?;
        let identity = SigningIdentity::from_seed(server_name, &version, &seed).map_err(Failure::software)?;
        // Derived from the name, so that a data folder without a list of tenants finds its own again.
        let id = LogId::derived(TenantId::new(0), "tenant", &config.server_name);
        let id = id.as_bytes().iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte));
        let tenant = Tenant { id: TenantId::new(id), identity, seed, public_baseurl: config.base_url() };
        Ok(Self(vec![Arc::new(tenant)]))
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
        client_api::Tenants { all: self.0.iter().map(known).collect() }
    }
}

/// The key's version and seed, from `signing.key` (`ed25519 VERSION SEED`); made at the first start, readable by its owner only.
fn signing_key(folder: &Path, random: &dyn Random) -> io::Result<(String, [u8; 32])> {
    let path = folder.join("signing.key");
    match fs::read_to_string(&path) {
        Ok(text) => parse(&text).ok_or_else(|| io::Error::other("signing.key is damaged")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (version, seed) = (random.alphanumeric(6), random.bytes());
            // Whole or not at all: a half-written key would be taken for a damaged one.
            let new = folder.join("signing.key.new");
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            writeln!(file, "ed25519 {version} {}", STANDARD_NO_PAD.encode(seed))?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            fs::File::open(folder)?.sync_all()?;
            Ok((version, seed))
        }
        Err(error) => Err(error),
    }
}

fn parse(text: &str) -> Option<(String, [u8; 32])> {
    let mut parts = text.split_whitespace();
    let (algorithm, version, seed) = (parts.next()?, parts.next()?, parts.next()?);
    let seed = STANDARD_NO_PAD.decode(seed).ok()?.try_into().ok()?;
    (algorithm == "ed25519").then(|| (version.to_owned(), seed))
}
