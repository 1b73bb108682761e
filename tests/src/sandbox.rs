//! A homeserver process in a folder of its own, on free ports; it goes when the sandbox is dropped.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use http::Method;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::Client;

/// A start takes no longer.
const START: Duration = Duration::from_secs(20);

/// A homeserver that can be killed and started again on the same data.
pub struct Sandbox {
    folder: TempDir,
    binary: PathBuf,
    env: Vec<(String, String)>,
    client_port: u16,
    ops_port: u16,
    process: Option<Child>,
}

impl Sandbox {
    /// Starts a server with these settings beside the usual ones of a test (names of environment variables, without `POLITY__`).
    ///
    /// # Panics
    /// When it can't be started: that is the test's failure.
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let binary = std::env::var_os("POLITY_BINARY").map_or_else(beside_the_test, PathBuf::from);
        let (client_port, ops_port) = (free_port(), free_port());
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
        let mut sandbox = Self { folder, binary, env, client_port, ops_port, process: None };
        sandbox.restart().await;
        sandbox
    }

    /// Where clients find it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    /// Where health and metrics are.
    #[must_use]
    pub fn ops_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ops_port)
    }

    /// The folder that holds its data.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_path_buf()
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

    /// Ends the process at once, as a power cut would, and waits until it is gone.
    ///
    /// # Panics
    /// When the process can't be killed.
    pub async fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().await.expect("a child can be killed");
        }
    }

    /// Starts it (again) and waits until it is ready; how long that took.
    ///
    /// # Panics
    /// When it ends or isn't ready in time.
    pub async fn restart(&mut self) -> Duration {
        self.kill().await;
        let began = Instant::now();
        let mut command = Command::new(&self.binary);
        command.arg("serve").current_dir(self.folder.path()).stdin(Stdio::null()).kill_on_drop(true);
        for (name, value) in &self.env {
            command.env(format!("POLITY__{name}"), value);
        }
        let mut process = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.binary.display()));
        let ops = Client::new(&self.ops_url());
        loop {
            if let Ok((status, _)) = ops.raw(Method::GET, "/health/ready", None).await
                && status.is_success()
            {
                break;
            }
            if let Ok(Some(status)) = process.try_wait() {
                panic!("the server ended at its start: {status}");
            }
            assert!(began.elapsed() < START, "the server isn't ready after {START:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.process = Some(process);
        began.elapsed()
    }
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// `target/PROFILE/polity`, from `target/PROFILE/deps/test-...`.
fn beside_the_test() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("a target folder");
    profile.join("polity")
}
