//! A homeserver process in a folder of its own, on free ports; it goes when the sandbox is dropped.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use http::Method;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{Client, ports::Port};

/// A start takes no longer.
const START: Duration = Duration::from_secs(60);
/// What a failed test shows of the server's output.
const LAST_LINES: usize = 40;

/// A homeserver that can be killed and started again on the same data.
pub struct Sandbox {
    folder: Option<TempDir>,
    path: PathBuf,
    binary: PathBuf,
    env: Vec<(String, String)>,
    client_port: Port,
    ops_port: Port,
    process: Option<Child>,
}

impl Sandbox {
    /// A server that isn't started yet, with these settings beside the usual ones of a test (names of environment variables,
    /// without `POLITY__`).
    ///
    /// # Panics
    /// When there is no folder or port for it.
    #[must_use]
    pub fn new(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let binary = std::env::var_os("POLITY_BINARY").map_or_else(beside_the_test, PathBuf::from);
        let (client_port, ops_port) = (Port::take(), Port::take());
        let mut env: Vec<(String, String)> = vec![
            ("SERVER_NAME".into(), "polity.test".into()),
            ("PUBLIC_BASEURL".into(), format!("http://127.0.0.1:{client_port}")),
            ("DATA_DIR".into(), folder.path().join("data").display().to_string()),
            ("LISTENERS__CLIENT__BIND".into(), format!("127.0.0.1:{client_port}")),
            ("LISTENERS__OPS__BIND".into(), format!("127.0.0.1:{ops_port}")),
            ("REGISTRATION__ENABLED".into(), "true".into()),
            ("PASSWORDS__CHEAP_HASH_FOR_TESTS".into(), "true".into()),
            ("RATE_LIMITS__ENABLED".into(), "false".into()),
            ("LOG__LEVEL".into(), "warn".into()),
        ];
        env.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let path = folder.path().to_path_buf();
        Self { folder: Some(folder), path, binary, env, client_port, ops_port, process: None }
    }

    /// Starts a server; see [`Sandbox::new`].
    ///
    /// # Panics
    /// When it can't be started: that is the test's failure.
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        let mut sandbox = Self::new(settings);
        sandbox.restart().await;
        sandbox
    }

    /// Where clients find it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Address and port of the client listener.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// Where health and metrics are.
    #[must_use]
    pub fn ops_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ops_port)
    }

    /// The folder that it runs in; its data is in `data` below.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.path
    }

    /// The process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().and_then(Child::id)
    }

    /// A client without account.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(&self.url())
    }

    /// A client of the operators' listener.
    #[must_use]
    pub fn operator(&self) -> Client {
        Client::new(&self.ops_url())
    }

    /// What the server has said so far, on both of its outputs.
    #[must_use]
    pub fn said(&self) -> String {
        let bytes = fs::read(self.output()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// No part of the server has panicked.
    ///
    /// # Panics
    /// When one has.
    pub fn assert_no_panic(&self) {
        let said = self.said();
        let fault = said.lines().find(|line| line.contains("panicked") || line.contains("ended in a panic"));
        assert!(fault.is_none(), "the server panicked:\n{}", last_lines(&said));
    }

    /// Resident memory in bytes, while it runs.
    #[must_use]
    pub fn resident(&self) -> u64 {
        let status =
            self.pid().and_then(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok()).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches("kB").trim().parse().map_or(0, |kib: u64| kib * 1024)
    }

    /// Ends the process at once, as a power cut would, and waits until it is gone.
    ///
    /// # Panics
    /// When the process can't be killed.
    pub async fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().await.expect("a child can be killed");
        }
    }

    /// Sends a signal by its name, as `kill` knows it.
    ///
    /// # Panics
    /// When the process doesn't run.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().expect("a process that runs").to_string();
        let sent = std::process::Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{name} can't be sent");
    }

    /// Waits for the process to end by itself.
    ///
    /// # Panics
    /// When it doesn't within `limit`.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let mut process = self.process.take().expect("a process that runs");
        let ended = tokio::time::timeout(limit, process.wait()).await;
        ended.unwrap_or_else(|_| panic!("the server still runs after {limit:?}")).expect("a child can be waited for")
    }

    /// The program with these arguments and the sandbox's settings.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).current_dir(&self.path).stdin(Stdio::null()).kill_on_drop(true);
        for (name, value) in &self.env {
            command.env(format!("POLITY__{name}"), value);
        }
        command
    }

    /// Runs the program to its end.
    ///
    /// # Panics
    /// When it doesn't end in time.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        run(&mut self.command(arguments)).await
    }

    /// Starts it (again) and waits until it is ready; how long that took.
    ///
    /// # Panics
    /// When it ends or isn't ready in time.
    pub async fn restart(&mut self) -> Duration {
        self.kill().await;
        let began = Instant::now();
        self.launch();
        self.ready().await;
        began.elapsed()
    }

    /// Starts it without waiting for anything.
    ///
    /// # Panics
    /// When the program can't be run.
    pub fn launch(&mut self) {
        self.launch_with(&["serve"]);
    }

    /// The same with other arguments.
    ///
    /// # Panics
    /// When the program can't be run.
    pub fn launch_with(&mut self, arguments: &[&str]) {
        let output =
            fs::OpenOptions::new().create(true).append(true).open(self.output()).expect("a file for its output");
        let mut command = self.command(arguments);
        command.stdout(output.try_clone().expect("a second handle")).stderr(output);
        let process = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.binary.display()));
        self.process = Some(process);
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    /// When it ends or isn't ready in time.
    pub async fn ready(&mut self) {
        let (began, ops) = (Instant::now(), self.operator());
        loop {
            if let Ok((status, _)) = ops.raw(Method::GET, "/health/ready", None).await
                && status.is_success()
            {
                return;
            }
            if let Ok(Some(status)) = self.process.as_mut().expect("a launched process").try_wait() {
                panic!("the server ended at its start: {status}");
            }
            assert!(began.elapsed() < START, "the server isn't ready after {START:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn output(&self) -> PathBuf {
        self.path.join("output.txt")
    }
}

impl Drop for Sandbox {
    #[expect(clippy::print_stderr, reason = "what a failed test says")]
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            let kept = folder.keep();
            eprintln!("the server's folder is kept: {}; it said last:\n{}", kept.display(), last_lines(&self.said()));
        }
    }
}

/// Runs a command to its end.
///
/// # Panics
/// When it doesn't end in time.
pub async fn run(command: &mut Command) -> Output {
    let output = tokio::time::timeout(START, command.stdin(Stdio::null()).kill_on_drop(true).output()).await;
    output.unwrap_or_else(|_| panic!("it still runs after {START:?}")).expect("the program can be run")
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

/// `target/PROFILE/polity`, from `target/PROFILE/deps/test-...`.
fn beside_the_test() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("a target folder");
    profile.join("polity")
}
