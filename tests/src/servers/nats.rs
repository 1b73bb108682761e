//! A NATS server that can be stopped and started again.

use std::{fmt::Write as _, fs, path::PathBuf, process::Command, time::Duration};

use tokio::{io::AsyncReadExt as _, net::TcpStream};

use super::{Certificate, Folder, Process, programs};
use crate::ports::Port;

const START: Duration = Duration::from_secs(20);

/// How it is set up.
#[derive(Debug, Clone, Default)]
pub struct NatsOptions {
    /// Only who knows this name and password is let in.
    pub user: Option<(String, String)>,
    /// It speaks TLS under this certificate, and only with whom this authority knows (its certificate).
    pub tls: Option<(Certificate, PathBuf)>,
    /// A client for whom more bytes wait is cut off; no message is larger.
    pub max_pending_bytes: Option<u32>,
    /// Further settings, as its file has them.
    pub more: String,
}

/// See the module.
pub struct Nats {
    port: Port,
    options: NatsOptions,
    process: Option<Process>,
    /// Goes when nobody writes to it any more.
    folder: Folder,
}

impl Nats {
    /// Starts one and waits until it takes connections.
    ///
    /// # Panics
    /// When it doesn't start.
    pub async fn start(options: NatsOptions) -> Self {
        let mut nats = Self { folder: Folder::new(), port: Port::take(), options, process: None };
        nats.restart().await;
        nats
    }

    /// Its settings, as a file.
    fn settings(&self) -> String {
        let Self { port, options, .. } = self;
        let mut config = format!("listen: \"127.0.0.1:{port}\"\nwrite_deadline: \"2s\"\n");
        if let Some((certificate, authority)) = &options.tls {
            let (cert, key, ca) = (certificate.certificate.display(), certificate.key.display(), authority.display());
            let _ = writeln!(
                config,
                "tls {{ cert_file: \"{cert}\", key_file: \"{key}\", ca_file: \"{ca}\", verify: true }}"
            );
        }
        if let Some((user, password)) = &options.user {
            let _ = writeln!(config, "authorization {{ user: \"{user}\", password: \"{password}\" }}");
        }
        if let Some(bytes) = options.max_pending_bytes {
            let _ = writeln!(config, "max_payload: {bytes}\nmax_pending: {bytes}");
        }
        config + &options.more
    }

    /// Where clients find it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", if self.options.tls.is_some() { "tls" } else { "nats" }, self.port)
    }

    /// The folder that it runs in.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.folder.path().join("nats")
    }

    /// The process, while it runs.
    #[must_use]
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Other further settings, from the next start on.
    pub fn set_more(&mut self, more: String) {
        self.options.more = more;
    }

    /// Starts it (again), on the same port.
    ///
    /// # Panics
    /// When it doesn't start.
    pub async fn restart(&mut self) {
        self.kill();
        let file = self.folder.path().join("nats.conf");
        fs::write(&file, self.settings()).expect("a file");
        let mut command = Command::new(programs::nats_server());
        command.arg("--config").arg(file);
        let folder = self.folder();
        let process = self.process.insert(Process::start(&mut command, &folder));
        let up = async {
            while !greets(self.port.number()).await {
                assert!(process.ended().is_none(), "NATS ended:\n{}", process.said());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(START, up).await;
        assert!(waited.is_ok(), "NATS isn't ready after {START:?}");
    }
}

/// Whether a server says first who it is, in the clear also where TLS follows.
async fn greets(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else { return false };
    let mut start = [0; 4];
    stream.read_exact(&mut start).await.is_ok() && &start == b"INFO"
}
