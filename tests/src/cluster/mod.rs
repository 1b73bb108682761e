//! A whole cluster of real processes: Cassandra, NATS, several processes of each tier, and one front proxy without stickiness. Every
//! process can be killed, stopped and started again; all of them go with the cluster.

mod instance;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::{Duration, Instant},
};

pub use instance::{Instance, Tier};
use tokio::process::Command;

use crate::{
    Client,
    ports::Port,
    servers::{Authority, Backend, Cassandra, CassandraOptions, Folder, Nats, NatsOptions, Process, Proxy},
};

/// Processes of one tier at most, over the life of a cluster: the proxy knows all their places from the beginning.
pub const PLACES: usize = 8;
/// The name that the certificates of a cluster's processes are for.
const INTERNAL_NAME: &str = "polity.internal";
/// The one file of all processes; the rest is in their environment, since each differs.
const CONFIG: &str = "polity.toml";
/// The longest that a process takes to start.
const START: Duration = Duration::from_secs(120);

/// How a cluster is made.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Processes of each tier.
    pub tiers: Vec<(Tier, usize)>,
    /// The nodes of the store.
    pub cassandra: CassandraOptions,
    /// The folder with the programs of the tiers.
    pub programs: PathBuf,
    /// Settings beside the usual ones (names of environment variables, without `POLITY__`).
    pub settings: Vec<(String, String)>,
}

impl Shape {
    /// Two processes of each tier on one node, made for tests: from the folder that the test was built into, or the one that
    /// `POLITY_BINARIES` names.
    ///
    /// # Panics
    /// When the test doesn't know where it is.
    #[must_use]
    pub fn for_tests() -> Self {
        let beside_the_test = || {
            let test = std::env::current_exe().expect("the test's own path");
            test.parent().and_then(Path::parent).expect("a target folder").to_path_buf()
        };
        let settings = [("PASSWORDS__CHEAP_HASH_FOR_TESTS", "true"), ("LOG__LEVEL", "info")];
        Self {
            tiers: vec![(Tier::RoomState, 2), (Tier::ClientApi, 2)],
            cassandra: CassandraOptions::default(),
            programs: std::env::var_os("POLITY_BINARIES").map_or_else(beside_the_test, PathBuf::from),
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        }
    }
}

/// See the module.
pub struct Cluster {
    shape: Shape,
    authority: Authority,
    proxy: Proxy,
    proxy_port: Port,
    instances: Vec<Instance>,
    /// Where the store is.
    pub cassandra: Cassandra,
    /// The bus.
    pub nats: Nats,
    /// Goes when nobody writes to it any more, unless a test failed.
    folder: Folder,
}

impl Cluster {
    /// Starts everything and waits until it is ready.
    ///
    /// # Panics
    /// When something doesn't start.
    pub async fn start(shape: Shape) -> Self {
        let folder = Folder::new();
        fs::write(folder.path().join(CONFIG), "server_name = \"polity.test\"\n").expect("a file");
        let authority = Authority::new(&folder.path().join("certificates"));
        let (cassandra, nats) = tokio::join!(Cassandra::start(&shape.cassandra), Nats::start(NatsOptions::default()));
        let proxy_port = Port::take();
        let instances: Vec<Instance> = Tier::ALL
            .into_iter()
            .flat_map(|tier| (1..=PLACES).map(move |number| Instance::new(tier, number)))
            .collect();
        let backends: Vec<Backend> = instances.iter().filter_map(Instance::backend).collect();
        let proxy = Proxy::start(&folder.path().join("proxy"), proxy_port.clone(), &backends).await;
        let mut cluster = Self { shape, authority, proxy, proxy_port, instances, cassandra, nats, folder };
        let wanted = cluster.shape.tiers.clone();
        for (tier, count) in &wanted {
            (1..=*count).for_each(|number| cluster.launch(*tier, number));
        }
        for (tier, count) in wanted {
            for number in 1..=count {
                cluster.ready(tier, number).await;
            }
        }
        cluster.behind_the_proxy().await;
        cluster
    }

    /// The base URL for clients.
    #[must_use]
    pub fn url(&self) -> String {
        self.proxy.url()
    }

    /// A client without account, which speaks to the proxy: to one instance after the other.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(&self.url())
    }

    /// The folder of the cluster, with one for each process.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// All places, also those where nothing runs.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter()
    }

    /// The processes that run (or are stopped).
    pub fn running(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(|instance| instance.process().is_some())
    }

    /// The proxy's process.
    #[must_use]
    pub fn proxy(&self) -> &Process {
        self.proxy.process()
    }

    /// A tier's process by its number, from 1.
    ///
    /// # Panics
    /// When there is no such place.
    #[must_use]
    pub fn instance(&self, tier: Tier, number: usize) -> &Instance {
        let found = self.instances.iter().find(|instance| instance.tier == tier && instance.number == number);
        found.unwrap_or_else(|| panic!("there is no {tier} {number}"))
    }

    /// The same, to be changed.
    ///
    /// # Panics
    /// When there is no such place.
    pub fn at(&mut self, tier: Tier, number: usize) -> &mut Instance {
        let found = self.instances.iter_mut().find(|instance| instance.tier == tier && instance.number == number);
        found.unwrap_or_else(|| panic!("there is no {tier} {number}"))
    }

    /// Starts one more process of a tier and waits until it is ready; its number. `None` when all places are taken.
    pub async fn add(&mut self, tier: Tier) -> Option<usize> {
        let free =
            |instance: &&Instance| instance.tier == tier && instance.process().is_none() && !instance.was_there();
        let number = self.instances.iter().find(free)?.number;
        self.launch(tier, number);
        self.ready(tier, number).await;
        Some(number)
    }

    /// Starts a process (again) without waiting for it.
    pub fn launch(&mut self, tier: Tier, number: usize) {
        self.launch_with(tier, number, &[]);
    }

    /// The same with other settings (names as in [`Shape::settings`]).
    pub fn launch_with(&mut self, tier: Tier, number: usize, others: &[(&str, &str)]) {
        let mut settings = self.settings(self.instance(tier, number));
        settings.extend(others.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let program = self.shape.programs.join(tier.program());
        let (config, folder) = (self.config(), self.folder().join(self.instance(tier, number).name()));
        self.at(tier, number).launch(&program, &config, &folder, &settings);
    }

    /// Waits until a process says it is ready.
    ///
    /// # Panics
    /// When it ends or takes too long.
    pub async fn ready(&mut self, tier: Tier, number: usize) {
        self.at(tier, number).ready(START).await;
    }

    /// Starts a process (again) and waits until it is ready.
    pub async fn restart(&mut self, tier: Tier, number: usize) {
        self.launch(tier, number);
        self.ready(tier, number).await;
    }

    /// Ends a process at once.
    pub fn kill(&mut self, tier: Tier, number: usize) {
        self.at(tier, number).kill();
    }

    /// Asks a process to end, and waits for it; whether it did within `limit`.
    ///
    /// # Panics
    /// When it doesn't run.
    pub async fn leave(&mut self, tier: Tier, number: usize, limit: Duration) -> bool {
        let process = self.at(tier, number).take().expect("a process that runs");
        process.terminate(limit).await
    }

    /// Runs `polity` with these arguments and what it needs to work on the cluster's store; what came of it.
    ///
    /// # Panics
    /// When it still runs after `limit`.
    pub async fn operate(&self, arguments: &[&str], limit: Duration) -> Output {
        let mut command = Command::new(self.shape.programs.join(Tier::Polity.program()));
        command.args(arguments).arg("--config").arg(self.config()).stdin(Stdio::null()).kill_on_drop(true);
        for (name, value) in self.settings(self.instance(Tier::Polity, 1)) {
            command.env(format!("POLITY__{name}"), value);
        }
        let output = tokio::time::timeout(limit, command.output()).await;
        output.unwrap_or_else(|_| panic!("{arguments:?} still runs after {limit:?}")).expect("the program can be run")
    }

    /// Waits until the proxy gives requests to all processes that run and answer clients.
    ///
    /// # Panics
    /// When it takes too long.
    pub async fn behind_the_proxy(&self) {
        let began = Instant::now();
        let running = self.running().filter(|instance| instance.backend().is_some());
        let mut wanted: Vec<String> = running.map(Instance::name).collect();
        wanted.sort_unstable();
        loop {
            let mut given = self.proxy.gives_to().await;
            given.sort_unstable();
            if given == wanted {
                return;
            }
            assert!(began.elapsed() < START, "the proxy gives requests to {given:?}, not to {wanted:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// No process has panicked.
    ///
    /// # Panics
    /// When one has.
    pub fn assert_no_panic(&self) {
        for instance in &self.instances {
            let said = instance.said(self.folder.path());
            let fault = said.lines().find(|line| line.contains("panicked") || line.contains("ended in a panic"));
            assert!(fault.is_none(), "{} panicked:\n{}", instance.name(), fault.unwrap_or_default());
        }
    }

    fn config(&self) -> PathBuf {
        self.folder().join(CONFIG)
    }

    fn settings(&self, instance: &Instance) -> Vec<(String, String)> {
        let certificate = self.authority.issue(&instance.name(), INTERNAL_NAME);
        let replicas = self.shape.cassandra.nodes;
        let values = [
            ("PUBLIC_BASEURL", format!("http://127.0.0.1:{}", self.proxy_port)),
            ("DATA_DIR", self.folder().join(instance.name()).join("data").display().to_string()),
            ("REGISTRATION__ENABLED", "true".to_owned()),
            ("RATE_LIMITS__ENABLED", "false".to_owned()),
            ("STORE__KIND", "cql".to_owned()),
            ("STORE__CQL__CONTACT_POINTS", self.cassandra.contact_points().join(",")),
            ("STORE__CQL__LOCAL_DATACENTER", "datacenter1".to_owned()),
            ("STORE__CQL__REPLICATION", format!("datacenter1={replicas}")),
            ("BUS__KIND", "nats".to_owned()),
            ("BUS__NATS__URLS", self.nats.url()),
            ("CLUSTER__NODE_NAME", instance.name()),
            ("CLUSTER__INTERNAL_CA", self.authority.certificate().display().to_string()),
            ("CLUSTER__INTERNAL_CERT", certificate.certificate.display().to_string()),
            ("CLUSTER__INTERNAL_KEY", certificate.key.display().to_string()),
            ("LISTENERS__CLIENT__TRUSTED_PROXIES", "127.0.0.1".to_owned()),
        ];
        let own = values.into_iter().map(|(name, value)| (name.to_owned(), value));
        own.chain(instance.listeners()).chain(self.shape.settings.clone()).collect()
    }
}

impl Drop for Cluster {
    #[expect(clippy::print_stderr, reason = "what a failed test says")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.folder.keep();
            eprintln!("the cluster's folder is kept: {}", self.folder.path().display());
            for instance in self.instances.iter().filter(|instance| instance.was_there()) {
                let said = instance.said(self.folder.path());
                let lines: Vec<&str> = said.lines().collect();
                eprintln!("{} said last:\n{}", instance.name(), lines[lines.len().saturating_sub(15)..].join("\n"));
            }
        }
    }
}
