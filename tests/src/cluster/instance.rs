//! One process of a tier, and its place: ports and a folder that it keeps over restarts.

use std::{
    fmt, fs,
    path::Path,
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

use http::Method;

use crate::{
    Client,
    ports::Port,
    servers::{Backend, Process},
};

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// Answers clients.
    ClientApi,
    /// Writes rooms.
    RoomState,
    /// Both, in one process.
    Polity,
}

/// See the module.
pub struct Instance {
    /// What it does.
    pub tier: Tier,
    /// Its number among those of its tier, from 1.
    pub number: usize,
    client_port: Port,
    internal_port: Port,
    ops_port: Port,
    process: Option<Process>,
    was_there: bool,
}

// === impl Tier ===

impl fmt::Display for Tier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::ClientApi => "client-api",
            Self::RoomState => "room-state",
            Self::Polity => "polity",
        })
    }
}

impl Tier {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ClientApi, Self::RoomState, Self::Polity];

    /// The tier that is called so.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.to_string() == name)
    }

    pub(super) fn program(self) -> &'static str {
        match self {
            Self::ClientApi => "polity-client-api",
            Self::RoomState => "polity-room-state",
            Self::Polity => "polity",
        }
    }
}

// === impl Instance ===

impl Instance {
    pub(super) fn new(tier: Tier, number: usize) -> Self {
        let [client_port, internal_port, ops_port] = [Port::take(), Port::take(), Port::take()];
        Self { tier, number, client_port, internal_port, ops_port, process: None, was_there: false }
    }

    /// What it is called: its node's name, and its folder's.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}-{}", self.tier, self.number)
    }

    /// Its process, while it runs or is stopped.
    #[must_use]
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Whether it was ever started.
    #[must_use]
    pub fn was_there(&self) -> bool {
        self.was_there
    }

    /// A client without account, which speaks to this process alone.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(&format!("http://127.0.0.1:{}", self.client_port))
    }

    /// Where health and metrics are.
    #[must_use]
    pub fn ops_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ops_port)
    }

    /// A client of the operators' listener.
    #[must_use]
    pub fn operator(&self) -> Client {
        Client::new(&self.ops_url())
    }

    /// What it has said so far, over all its runs. `folder` is the cluster's.
    #[must_use]
    pub fn said(&self, folder: &Path) -> String {
        let bytes = fs::read(folder.join(self.name()).join("output.txt")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// How its process ended, if it has by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.as_mut()?.ended()
    }

    /// Sends a signal by its name, as `kill` knows it.
    ///
    /// # Panics
    /// When it doesn't run.
    pub fn signal(&self, name: &str) {
        self.process.as_ref().expect("a process that runs").signal(name);
    }

    /// Whether it says that it is ready.
    pub async fn is_ready(&self) -> bool {
        let asked = self.operator();
        let answer = tokio::time::timeout(Duration::from_secs(2), asked.raw(Method::GET, "/health/ready", None)).await;
        matches!(answer, Ok(Ok((status, _))) if status.is_success())
    }

    /// Where it would be for the proxy, if it answers clients.
    pub(super) fn backend(&self) -> Option<Backend> {
        let serves = self.tier != Tier::RoomState;
        serves.then(|| Backend { name: self.name(), port: self.client_port.number(), ops_port: self.ops_port.number() })
    }

    pub(super) fn listeners(&self) -> [(String, String); 3] {
        let ports = [("CLIENT", &self.client_port), ("INTERNAL", &self.internal_port), ("OPS", &self.ops_port)];
        ports.map(|(name, port)| (format!("LISTENERS__{name}__BIND"), format!("127.0.0.1:{port}")))
    }

    pub(super) fn launch(&mut self, program: &Path, config: &Path, folder: &Path, settings: &[(String, String)]) {
        self.kill();
        let mut command = Command::new(program);
        command.args(["serve", "--config"]).arg(config);
        for (name, value) in settings {
            command.env(format!("POLITY__{name}"), value);
        }
        self.process = Some(Process::start(&mut command, folder));
        self.was_there = true;
    }

    pub(super) async fn ready(&mut self, limit: Duration) {
        let (began, name) = (Instant::now(), self.name());
        while !self.is_ready().await {
            let process = self.process.as_mut().unwrap_or_else(|| panic!("{name} isn't started"));
            let ended = process.ended();
            assert!(ended.is_none(), "{name} ended: {ended:?}\n{}", process.said());
            assert!(began.elapsed() < limit, "{name} isn't ready after {limit:?}:\n{}", process.said());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) fn kill(&mut self) {
        self.process = None;
    }

    pub(super) fn take(&mut self) -> Option<Process> {
        self.process.take()
    }
}
