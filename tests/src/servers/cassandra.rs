//! Apache Cassandra: one node or three, each a process that can be killed, stopped and started again.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Folder, Process, programs};
use crate::ports::Port;

/// The longest that a node takes to start, on a machine that has other things to do.
const START: Duration = Duration::from_secs(240);
/// Where nodes of one, two or three are on the ring.
const TOKENS: [i64; 3] = [i64::MIN, -3_074_457_345_618_258_603, 3_074_457_345_618_258_602];
/// What Cassandra needs of the inside of Java.
const OPENS: &str = include_str!("../../servers/java-options");
const CONFIG: &str = include_str!("../../servers/cassandra.yaml");
const LOG_CONFIG: &str = include_str!("../../servers/logback.xml");
/// A node whose caches are as small as they can be.
const LITTLE_MEMORY: &str = "memtable_heap_space: 32MiB
memtable_offheap_space: 32MiB
file_cache_size: 16MiB
networking_cache_size: 16MiB
key_cache_size: 4MiB";
/// A node that is measured, on few cores: a conditional write holds a thread until it is done, and with the usual 128 of them (of
/// which as many run as there are requests) a quarter of the node's time went into switching between them.
const FEW_CORES: &str = "native_transport_max_threads: 16
memtable:
  configurations:
    trie:
      class_name: TrieMemtable
    default:
      inherits: trie";

/// What makes a node's clock wrong; what it measures durations with stays as it is.
const CLOCK_RULE: &str = "
RULE the clock is wrong
CLASS org.apache.cassandra.utils.Clock$Default
METHOD currentTimeMillis
AT EXIT
IF true
DO RETURN $! + @CLOCK_MS@
ENDRULE
";

/// How the nodes are set up.
#[derive(Debug, Clone)]
pub struct CassandraOptions {
    /// How many: 1 to 3.
    pub nodes: usize,
    /// Heap of each, in MB; all in all it takes some 400 more.
    pub heap_mb: u32,
    /// What was acknowledged survives the death of a process. Else the last seconds may be gone, and much is faster.
    pub durable: bool,
    /// Set up to be measured: compiled as well as Java can (which takes CPU for minutes), with the caches of a real node.
    pub measured: bool,
    /// A node keeps for a while what another missed.
    pub hints: bool,
    /// By how many seconds each node's clock is wrong; none where it is shorter.
    pub clocks_s: Vec<i64>,
    /// Rules of Byteman's for all nodes. `@FOLDER@` in them is the node's own folder.
    pub rules: &'static str,
}

impl Default for CassandraOptions {
    fn default() -> Self {
        Self { nodes: 1, heap_mb: 512, durable: false, measured: false, hints: true, clocks_s: Vec::new(), rules: "" }
    }
}

/// See the module.
pub struct Cassandra {
    options: CassandraOptions,
    port: Port,
    /// Those by which nodes know each other: plain, and encrypted.
    _storage_ports: [Port; 2],
    nodes: Vec<Node>,
    /// Goes when nobody writes to it any more.
    _folder: Folder,
}

struct Node {
    address: Ipv4Addr,
    folder: PathBuf,
    process: Option<Process>,
}

impl Cassandra {
    /// Starts the nodes and waits until all take requests.
    ///
    /// # Panics
    /// When they don't.
    pub async fn start(options: &CassandraOptions) -> Self {
        let folder = Folder::new();
        let addresses: Vec<Ipv4Addr> = (1..=3).take(options.nodes).map(|last| Ipv4Addr::new(127, 0, 0, last)).collect();
        let [port, plain, encrypted] = [0; 3].map(|_| Port::of(&addresses));
        let mut nodes = Vec::new();
        for (number, address) in addresses.into_iter().enumerate() {
            let folder = folder.path().join(format!("node{}", number + 1));
            set_up(&folder, address, [&port, &plain, &encrypted], options);
            let clock_s = options.clocks_s.get(number).unwrap_or(&0);
            let clock = CLOCK_RULE.replace("@CLOCK_MS@", &(clock_s * 1000).to_string());
            let rules = options.rules.replace("@FOLDER@", &folder.display().to_string());
            fs::write(folder.join("rules.btm"), if *clock_s == 0 { rules } else { rules + &clock }).expect("a file");
            nodes.push(Node { address, folder, process: None });
        }
        let mut cassandra =
            Self { options: options.clone(), port, _storage_ports: [plain, encrypted], nodes, _folder: folder };
        // The others ask the first one who is there.
        cassandra.restart(0).await;
        (1..options.nodes).for_each(|node| cassandra.launch(node));
        for node in 1..options.nodes {
            cassandra.ready(node).await;
        }
        cassandra
    }

    /// `host:port` of every node.
    #[must_use]
    pub fn contact_points(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("{}:{}", node.address, self.port)).collect()
    }

    /// A node's process, while it runs.
    #[must_use]
    pub fn process(&self, node: usize) -> Option<&Process> {
        self.nodes[node].process.as_ref()
    }

    /// A node's own folder.
    #[must_use]
    pub fn folder(&self, node: usize) -> &Path {
        &self.nodes[node].folder
    }

    /// Sends a signal to a node that runs.
    ///
    /// # Panics
    /// When it doesn't run.
    pub fn signal(&self, node: usize, name: &str) {
        self.process(node).expect("a node that runs").signal(name);
    }

    /// Ends a node at once.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].process = None;
    }

    /// Starts a node without waiting for it.
    pub fn launch(&mut self, node: usize) {
        let options = &self.options;
        let started = &mut self.nodes[node];
        started.process = None;
        let mut command = Command::new(programs::java());
        command.args(java_options(&started.folder, node, options));
        command.arg("-cp").arg(programs::cassandra_jars().join("*"));
        command.arg("org.apache.cassandra.service.CassandraDaemon");
        started.process = Some(Process::start(&mut command, &started.folder));
    }

    /// Waits until a node takes requests.
    ///
    /// # Panics
    /// When it ends or takes too long.
    pub async fn ready(&mut self, node: usize) {
        let (began, port) = (Instant::now(), self.port.number());
        let Node { address, folder, process } = &mut self.nodes[node];
        let process = process.as_mut().expect("a launched node");
        let said = |process: &Process| {
            let log = fs::read_to_string(folder.join("system.log")).unwrap_or_default();
            format!("{}\n{log}", process.said())
        };
        while !answers(*address, port).await {
            assert!(process.ended().is_none(), "node {node} ended:\n{}", said(process));
            assert!(began.elapsed() < START, "node {node} isn't ready after {START:?}:\n{}", said(process));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Starts a node (again) and waits for it.
    ///
    /// # Panics
    /// When it doesn't come up.
    pub async fn restart(&mut self, node: usize) {
        self.launch(node);
        self.ready(node).await;
    }
}

/// Writes a node's files.
fn set_up(folder: &Path, address: Ipv4Addr, [port, plain, encrypted]: [&Port; 3], options: &CassandraOptions) {
    fs::create_dir_all(folder).expect("a folder for the node");
    let sync = if options.durable {
        "commitlog_sync: batch"
    } else {
        "commitlog_sync: periodic\ncommitlog_sync_period: 10000ms"
    };
    let memory = if options.measured { FEW_CORES } else { LITTLE_MEMORY };
    let filled = |text: &str| {
        text.replace("@ADDRESS@", &address.to_string())
            .replace("@PORT@", &port.to_string())
            .replace("@STORAGE_PORT@", &plain.to_string())
            .replace("@TLS_STORAGE_PORT@", &encrypted.to_string())
            .replace("@FOLDER@", &folder.display().to_string())
            .replace("@HINTS@", &options.hints.to_string())
            .replace("@COMMITLOG_SYNC@", sync)
            .replace("@MEMORY@", memory)
    };
    fs::write(folder.join("cassandra.yaml"), filled(CONFIG)).expect("a file");
    fs::write(folder.join("logback.xml"), filled(LOG_CONFIG)).expect("a file");
}

fn java_options(folder: &Path, node: usize, options: &CassandraOptions) -> Vec<String> {
    let shown = folder.display();
    let mut all: Vec<String> = OPENS.lines().filter(|line| line.starts_with('-')).map(str::to_owned).collect();
    all.extend([
        format!("-Xms{0}m", options.heap_mb),
        format!("-Xmx{0}m", options.heap_mb),
        format!("-Dcassandra.config=file://{shown}/cassandra.yaml"),
        format!("-Dcassandra.storagedir={shown}"),
        format!("-Dlogback.configurationFile={shown}/logback.xml"),
        // Nodes are started together, each knows its place.
        format!("-Dcassandra.initial_token={}", TOKENS[node]),
    ]);
    if options.nodes == 1 {
        all.push("-Dcassandra.skip_wait_for_gossip_to_settle=0".to_owned());
        all.push("-Dcassandra.ring_delay_ms=100".to_owned());
    } else {
        all.push("-Dcassandra.ring_delay_ms=5000".to_owned());
    }
    if !options.measured {
        all.push("-XX:TieredStopAtLevel=1".to_owned());
    }
    if !options.durable {
        all.push("-Dcassandra.unsafesystem=true".to_owned());
    }
    if !options.rules.is_empty() || !options.clocks_s.is_empty() {
        all.push(format!("-javaagent:{}=script:{shown}/rules.btm", programs::byteman().display()));
    }
    all
}

/// Whether a CQL server answers there: to OPTIONS, which every client may ask first.
async fn answers(address: Ipv4Addr, port: u16) -> bool {
    const OPTIONS: [u8; 9] = [4, 0, 0, 0, 5, 0, 0, 0, 0];
    const SUPPORTED: u8 = 6;
    let asked = async {
        let mut stream = TcpStream::connect((address, port)).await.ok()?;
        stream.write_all(&OPTIONS).await.ok()?;
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        Some(head[4] == SUPPORTED)
    };
    tokio::time::timeout(Duration::from_secs(5), asked).await.ok().flatten().unwrap_or(false)
}
