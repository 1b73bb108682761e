//! A cluster for people: what `tests/cluster` runs. One process holds the cluster, as a test does, and takes orders on a socket; when
//! it ends, everything ends.

use std::{
    fmt::Write as _,
    io::Write as _,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use futures_util::FutureExt as _;
use polity_tests::{
    cluster::{Cluster, Shape, Tier},
    servers::{CassandraOptions, Process},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
};

const USAGE: &str = "hold FOLDER [--client-api N] [--room-state N] [--polity N] [--cassandra N] [--commit-log batch|periodic], \
                     or tell FOLDER ORDER...";
/// How long a process has to leave.
const LEAVE: Duration = Duration::from_secs(35);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match &arguments[..] {
        ["hold", folder, options @ ..] => match shape(options) {
            Ok(shape) => hold(Path::new(folder), shape).await,
            Err(error) => Err(error),
        },
        ["tell", folder, order @ ..] => tell(Path::new(folder), &order.join(" ")).await,
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error);
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn shape(options: &[&str]) -> Result<Shape, String> {
    let mut shape = Shape { tiers: Vec::new(), settings: Vec::new(), ..Shape::for_tests() };
    shape.cassandra = CassandraOptions { durable: true, measured: true, heap_mb: 1024, ..CassandraOptions::default() };
    let (mut client_api, mut room_state, mut polity) = (2, 2, 0);
    for pair in options.chunks(2) {
        let [name, count] = pair else { return Err(USAGE.to_owned()) };
        if let ("--commit-log", "batch" | "periodic") = (*name, *count) {
            shape.cassandra.durable = *count == "batch";
            continue;
        }
        let count: usize = count.parse().map_err(|_| format!("{name} {count}: no number"))?;
        match *name {
            "--client-api" => client_api = count,
            "--room-state" => room_state = count,
            "--polity" => polity = count,
            "--cassandra" if (1..=3).contains(&count) => shape.cassandra.nodes = count,
            _ => return Err(USAGE.to_owned()),
        }
    }
    shape.tiers = vec![(Tier::RoomState, room_state), (Tier::ClientApi, client_api), (Tier::Polity, polity)];
    Ok(shape)
}

/// Starts the cluster and holds it until it is told `down`, or to end by a signal.
async fn hold(folder: &Path, shape: Shape) -> Result<(), String> {
    let socket = UnixListener::bind(socket(folder)).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    say("starting Cassandra, NATS, the proxy, and the tiers");
    let started = tokio::select! {
        cluster = AssertUnwindSafe(Cluster::start(shape)).catch_unwind() => cluster,
        _ = terminate.recv() => return Ok(()),
    };
    let mut cluster = started.map_err(|_| "the cluster doesn't start".to_owned())?;
    say(&format!("ready: {}", cluster.url()));
    loop {
        let stream = tokio::select! {
            accepted = socket.accept() => accepted.map_err(|error| error.to_string())?.0,
            _ = terminate.recv() => return Ok(()),
        };
        let mut stream = BufReader::new(stream);
        let mut order = String::new();
        if stream.read_line(&mut order).await.is_err() {
            continue;
        }
        let words: Vec<&str> = order.split_whitespace().collect();
        if words == ["down"] {
            drop(cluster);
            let _ = stream.write_all(b"down\n").await;
            return Ok(());
        }
        let carried_out = AssertUnwindSafe(carry_out(&mut cluster, &words)).catch_unwind().await;
        let answer = match carried_out {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => format!("error: {error}\n"),
            Err(_) => "error: it failed; see the log of the cluster\n".to_owned(),
        };
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

async fn carry_out(cluster: &mut Cluster, words: &[&str]) -> Result<String, String> {
    match words {
        ["url"] => Ok(format!("{}\n", cluster.url())),
        ["status"] => Ok(status(cluster).await),
        // How the load generator is told which processes are ours and which are the store's.
        ["pids"] => Ok(pids(cluster)),
        ["folder", name] => Ok(format!("{}\n", folder_of(cluster, name)?.display())),
        ["add", tier] => {
            let tier = Tier::of_name(tier).ok_or_else(|| format!("there is no tier {tier}"))?;
            let number = cluster.add(tier).await.ok_or("all places are taken")?;
            Ok(format!("{tier} {number}\n"))
        }
        [order, name, number @ ..] => {
            let number: usize = number.first().unwrap_or(&"1").parse().map_err(|_| "no number".to_owned())?;
            done(cluster, order, name, number).await.map(|()| format!("{order} {name} {number}\n"))
        }
        _ => Err("no such order".to_owned()),
    }
}

/// What is done to one process.
async fn done(cluster: &mut Cluster, order: &str, name: &str, number: usize) -> Result<(), String> {
    let Some(tier) = Tier::of_name(name) else {
        return done_to_server(cluster, order, name, number).await;
    };
    let there = cluster.instances().any(|it| it.tier == tier && it.number == number && it.process().is_some());
    match order {
        "start" => cluster.restart(tier, number).await,
        _ if !there => return Err(format!("{name} {number} doesn't run")),
        "kill" => cluster.kill(tier, number),
        "leave" => {
            if !cluster.leave(tier, number, LEAVE).await {
                return Err(format!("{name} {number} didn't end by itself within {LEAVE:?}"));
            }
        }
        "stop" => cluster.instance(tier, number).signal("STOP"),
        "cont" => cluster.instance(tier, number).signal("CONT"),
        _ => return Err(format!("no such order: {order}")),
    }
    Ok(())
}

async fn done_to_server(cluster: &mut Cluster, order: &str, name: &str, number: usize) -> Result<(), String> {
    let node = number.wrapping_sub(1);
    match name {
        "cassandra" if node < cluster.cassandra.contact_points().len() => {}
        "nats" => {}
        _ => return Err(format!("there is no {name} {number}")),
    }
    let signalled = |process: Option<&Process>, signal: &str| {
        process.ok_or_else(|| format!("{name} doesn't run")).map(|process| process.signal(signal))
    };
    match (order, name) {
        ("start", "nats") => cluster.nats.restart().await,
        ("start", _) => cluster.cassandra.restart(node).await,
        ("kill", "nats") => cluster.nats.kill(),
        ("kill", _) => cluster.cassandra.kill(node),
        ("stop" | "cont", _) => {
            let signal = if order == "stop" { "STOP" } else { "CONT" };
            let process = if name == "nats" { cluster.nats.process() } else { cluster.cassandra.process(node) };
            return signalled(process, signal);
        }
        _ => return Err(format!("no such order: {order}")),
    }
    Ok(())
}

async fn status(cluster: &Cluster) -> String {
    let mut text = String::new();
    let mut line = |name: &str, process: Option<&Process>, more: &str| {
        let shown = process.map_or_else(
            || "-".to_owned(),
            |process| {
                let mib = process.resident_bytes() >> 20;
                format!("pid {:>7}  {mib:>5} MiB  {:>8.2} s CPU", process.pid(), process.cpu_s())
            },
        );
        let _ = writeln!(text, "{name:<14} {shown}  {more}");
    };
    for (node, address) in cluster.cassandra.contact_points().iter().enumerate() {
        line(&format!("cassandra-{}", node + 1), cluster.cassandra.process(node), address);
    }
    line("nats", cluster.nats.process(), &cluster.nats.url());
    line("proxy", Some(cluster.proxy()), &cluster.url());
    for instance in cluster.instances().filter(|instance| instance.was_there()) {
        let more = match instance.process() {
            None => "ended".to_owned(),
            Some(_) if instance.is_ready().await => format!("ready, {}", instance.ops_url()),
            Some(_) => format!("not ready, {}", instance.ops_url()),
        };
        line(&instance.name(), instance.process(), &more);
    }
    text
}

fn pids(cluster: &Cluster) -> String {
    let mut text = String::new();
    for process in cluster.running().filter_map(|instance| instance.process()) {
        let _ = write!(text, "--pid {} ", process.pid());
    }
    for node in 0..cluster.cassandra.contact_points().len() {
        if let Some(process) = cluster.cassandra.process(node) {
            let _ = write!(text, "--beside cassandra={} ", process.pid());
        }
    }
    if let Some(process) = cluster.nats.process() {
        let _ = write!(text, "--beside nats={} ", process.pid());
    }
    let _ = write!(text, "--beside proxy={}", cluster.proxy().pid());
    text + "\n"
}

fn folder_of(cluster: &Cluster, name: &str) -> Result<PathBuf, String> {
    let folder = match name.split_once('-') {
        Some(("cassandra", node)) => {
            let node = node.parse::<usize>().ok().and_then(|node| node.checked_sub(1));
            let node = node.filter(|node| *node < cluster.cassandra.contact_points().len());
            cluster.cassandra.folder(node.ok_or("there is no such node")?).to_owned()
        }
        _ if name == "nats" => cluster.nats.folder(),
        _ => cluster.folder().join(name),
    };
    if folder.is_dir() { Ok(folder) } else { Err(format!("{name} was never there")) }
}

/// Gives an order to the process that holds the cluster, and prints what it answers.
async fn tell(folder: &Path, order: &str) -> Result<(), String> {
    let stream = UnixStream::connect(socket(folder)).await;
    let mut stream = stream.map_err(|_| "no cluster is up".to_owned())?;
    let mut answer = String::new();
    let exchanged = async {
        stream.write_all(format!("{order}\n").as_bytes()).await?;
        stream.read_to_string(&mut answer).await
    };
    exchanged.await.map_err(|error| format!("the cluster doesn't answer: {error}"))?;
    match answer.strip_prefix("error: ") {
        Some(error) => Err(error.trim_end().to_owned()),
        None => {
            let _ = std::io::stdout().write_all(answer.as_bytes());
            Ok(())
        }
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("socket")
}
