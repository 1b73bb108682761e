//! The front proxy of a cluster: HAProxy, which gives every request to another instance.

use std::{fmt::Write as _, fs, path::Path, process::Command, time::Duration};

use http::Method;
use tokio::net::TcpStream;

use super::{Process, programs};
use crate::{Client, ports::Port};

/// What the configuration calls all instances together.
const BACKEND: &str = "client_api";
const START: Duration = Duration::from_secs(20);

/// A place where an instance may be; nobody needs to be there yet.
#[derive(Debug, Clone)]
pub struct Backend {
    /// How the proxy calls it.
    pub name: String,
    /// The port of its client listener.
    pub port: u16,
    /// The port of its operators' listener, which says whether it is ready.
    pub ops_port: u16,
}

/// See the module.
pub struct Proxy {
    port: Port,
    /// Where it tells about itself.
    stats_port: Port,
    process: Process,
}

impl Proxy {
    /// Starts one in a folder of its own, before these instances.
    ///
    /// # Panics
    /// When it doesn't start.
    pub(crate) async fn start(folder: &Path, port: Port, backends: &[Backend]) -> Self {
        fs::create_dir_all(folder).expect("a folder");
        let config = folder.join("haproxy.cfg");
        let stats_port = Port::take();
        fs::write(&config, configuration((&port, &stats_port), backends)).expect("a file");
        let mut command = Command::new(programs::haproxy());
        command.arg("-db").arg("-f").arg(&config);
        let mut process = Process::start(&mut command, folder);
        let up = async {
            while TcpStream::connect(("127.0.0.1", port.number())).await.is_err() {
                assert!(process.ended().is_none(), "the proxy ended:\n{}", process.said());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(START, up).await;
        assert!(waited.is_ok(), "the proxy isn't ready after {START:?}");
        Self { port, stats_port, process }
    }

    /// The base URL for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The names of those to whom it gives requests now.
    pub async fn gives_to(&self) -> Vec<String> {
        let stats = Client::new(&format!("http://127.0.0.1:{}", self.stats_port));
        let Ok((_, text)) = stats.raw(Method::GET, "/_/stats;csv", None).await else { return Vec::new() };
        let text = String::from_utf8_lossy(&text).into_owned();
        let mut lines = text.trim_start_matches("# ").lines().map(|line| line.split(',').collect::<Vec<_>>());
        let head = lines.next().unwrap_or_default();
        let at = |name: &str| head.iter().position(|column| *column == name).unwrap_or(usize::MAX);
        let (backend, name, status) = (at("pxname"), at("svname"), at("status"));
        let cell = |line: &[&str], at: usize| line.get(at).copied().unwrap_or_default().to_owned();
        let ours = lines.filter(|line| cell(line, backend) == BACKEND && cell(line, status).starts_with("UP"));
        ours.map(|line| cell(&line, name)).filter(|name| name != "BACKEND").collect()
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// No stickiness: the requests of one connection go to one instance after the other. A request is given to another instance only when
/// no connection could be made, so that none is done twice behind a client's back.
fn configuration((port, stats_port): (&Port, &Port), backends: &[Backend]) -> String {
    let mut config = format!(
        "global
  maxconn 8000
  # Fewer files than that are allowed here and there.
  no strict-limits
  nbthread 1
  # Health checks are spread a little.
  spread-checks 5

defaults
  mode http
  balance roundrobin
  retries 3
  option redispatch 1
  timeout connect 1s
  timeout client 120s
  timeout server 120s
  timeout queue 10s
  timeout http-keep-alive 120s

frontend clients
  bind 127.0.0.1:{port}
  default_backend {BACKEND}

frontend stats
  bind 127.0.0.1:{stats_port}
  stats enable
  stats uri /_/stats

backend {BACKEND}
  option httpchk GET /health/ready
  http-reuse safe
  default-server check inter 500ms fastinter 100ms downinter 250ms fall 2 rise 1 on-error fastinter observe layer4 init-addr none
"
    );
    for Backend { name, port, ops_port } in backends {
        let _ = writeln!(config, "  server {name} 127.0.0.1:{port} check port {ops_port}");
    }
    config
}
