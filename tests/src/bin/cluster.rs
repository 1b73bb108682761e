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
    cluster::{Cluster, PLACES, Shape, Tier},
    servers::{CassandraOptions, Process, State},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
};

const USAGE: &str = "polity-cluster hold FOLDER OPTION..., or tell FOLDER ORDER...; tests/cluster calls it";
const OPTIONS: &str = "there are --client-api N, --room-state N, --polity N (processes of a tier), --cassandra N (nodes) and --commit-log";
/// Nodes of the store at most.
const NODES: usize = 3;
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
            let _ = writeln!(std::io::stderr(), "{error}");
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
    for option in options.chunks(2) {
        let name = option[0];
        if let ["--commit-log", kept @ ("batch" | "periodic")] = option {
            shape.cassandra.durable = *kept == "batch";
            continue;
        }
        let (count, from, to) = match name {
            "--client-api" => (&mut client_api, 0, PLACES),
            "--room-state" => (&mut room_state, 0, PLACES),
            "--polity" => (&mut polity, 0, PLACES),
            "--commit-log" => return Err("--commit-log takes batch or periodic".to_owned()),
            "--cassandra" => (&mut shape.cassandra.nodes, 1, NODES),
            _ => return Err(format!("there is no option {name}: {OPTIONS}")),
        };
        let given = option.get(1).and_then(|given| given.parse().ok()).filter(|given| (from..=to).contains(given));
        *count = given.ok_or_else(|| format!("{name} takes a number from {from} to {to}"))?;
    }
    if client_api + polity == 0 || room_state + polity == 0 {
        return Err(
            "somebody must answer clients and somebody write rooms: client-api and room-state, or polity".into()
        );
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
        asked = down_while_it_starts(&socket) => {
            asked.answer_down().await;
            return Err("it was told to end while it started".to_owned());
        }
        _ = terminate.recv() => return Ok(()),
    };
    let mut cluster = started.map_err(|_| "the cluster doesn't start".to_owned())?;
    say(&format!("ready: {}", cluster.url()));
    loop {
        let mut asked = tokio::select! {
            asked = Asked::accept(&socket) => asked,
            _ = terminate.recv() => return Ok(()),
        };
        let words: Vec<&str> = asked.order.split_whitespace().collect();
        if words == ["down"] {
            drop(cluster);
            asked.answer_down().await;
            return Ok(());
        }
        let carried_out = AssertUnwindSafe(carry_out(&mut cluster, &words)).catch_unwind().await;
        let answer = match carried_out {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => format!("error: {error}\n"),
            Err(_) => "error: it failed; tests/cluster logs says how\n".to_owned(),
        };
        asked.answer(&answer).await;
    }
}

/// An order, and where the answer goes.
struct Asked {
    order: String,
    stream: BufReader<UnixStream>,
}

impl Asked {
    /// The next order. Who goes away before he gave one is passed over.
    async fn accept(socket: &UnixListener) -> Self {
        loop {
            let Ok((stream, _)) = socket.accept().await else { continue };
            let (mut stream, mut order) = (BufReader::new(stream), String::new());
            if stream.read_line(&mut order).await.is_ok_and(|read| read > 0) {
                return Self { order, stream };
            }
        }
    }

    async fn answer(&mut self, text: &str) {
        let _ = self.stream.write_all(text.as_bytes()).await;
    }

    /// The last answer, which ends when this process does: who asked reads up to the end, and finds nothing left.
    async fn answer_down(mut self) {
        self.answer("down\n").await;
        std::mem::forget(self.stream);
    }
}

/// Waits for the one order that needs no cluster that runs.
async fn down_while_it_starts(socket: &UnixListener) -> Asked {
    loop {
        let mut asked = Asked::accept(socket).await;
        if asked.order.trim() == "down" {
            return asked;
        }
        asked.answer("error: the cluster is starting\n").await;
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
            let all = format!("all {PLACES} places of {tier} were taken; start one of those that have ended");
            let number = cluster.add(tier).await.ok_or(all)?;
            Ok(format!("{tier} {number} is there\n"))
        }
        [order, name, number @ ..] if number.len() < 2 => match Tier::of_name(name) {
            Some(tier) => {
                let number = number.first().ok_or_else(|| format!("which {tier}? {order} {tier} NUMBER"))?;
                let places = || (1..=PLACES).find(|place| place.to_string() == *number);
                let number = places().ok_or_else(|| format!("there is no {tier} {number}"))?;
                done(cluster, order, tier, number).await
            }
            None => {
                let number = number.first().map_or(Ok(1), |number| number.parse());
                let number = number.map_err(|_| format!("there is no such {name}"))?;
                done_to_server(cluster, order, name, number).await
            }
        },
        _ => Err("no such order".to_owned()),
    }
}

/// What is done to one process; what came of it.
async fn done(cluster: &mut Cluster, order: &str, tier: Tier, number: usize) -> Result<String, String> {
    let instance = cluster.instance(tier, number);
    if !instance.was_there() {
        return Err(format!("{tier} {number} was never there: add {tier}"));
    }
    let state = instance.process().map_or(State::Ended, Process::state);
    match (order, state) {
        ("start", State::Ended) => cluster.restart(tier, number).await,
        ("start", _) => return Err(format!("{tier} {number} is there already")),
        (_, State::Ended) => return Err(format!("{tier} {number} doesn't run")),
        ("kill", _) => cluster.kill(tier, number),
        ("leave", State::Stopped) => return Err(format!("{tier} {number} is stopped: cont {tier} {number}")),
        ("leave", _) => {
            if !cluster.leave(tier, number, LEAVE).await {
                return Err(format!("{tier} {number} didn't end by itself within {LEAVE:?} and was killed"));
            }
        }
        ("stop", _) => instance.signal("STOP"),
        ("cont", _) => instance.signal("CONT"),
        _ => return Err(format!("no such order: {order}")),
    }
    Ok(format!("{tier} {number} {}\n", outcome(order)))
}

async fn done_to_server(cluster: &mut Cluster, order: &str, name: &str, number: usize) -> Result<String, String> {
    let node = number.wrapping_sub(1);
    let process = match name {
        "cassandra" if node < cluster.cassandra.contact_points().len() => cluster.cassandra.process(node),
        "nats" if number == 1 => cluster.nats.process(),
        "cassandra" | "nats" => return Err(format!("there is no {name} {number}")),
        _ => return Err(format!("there is no tier or server {name}")),
    };
    match (order, name, process) {
        ("start", _, Some(process)) if process.state() != State::Ended => {
            return Err(format!("{name} {number} is there already"));
        }
        ("start", "nats", _) => cluster.nats.restart().await,
        ("start", ..) => cluster.cassandra.restart(node).await,
        ("leave", ..) => return Err(format!("{name} is no tier: kill {name} {number}")),
        (_, _, None) => return Err(format!("{name} {number} doesn't run")),
        ("kill", "nats", _) => cluster.nats.kill(),
        ("kill", ..) => cluster.cassandra.kill(node),
        ("stop", _, Some(process)) => process.signal("STOP"),
        ("cont", _, Some(process)) => process.signal("CONT"),
        _ => return Err(format!("no such order: {order}")),
    }
    Ok(format!("{name} {number} {}\n", outcome(order)))
}

/// What a process is after an order.
fn outcome(order: &str) -> &'static str {
    match order {
        "start" => "is there",
        "kill" => "is killed",
        "leave" => "has left",
        "stop" => "is stopped",
        _ => "goes on",
    }
}

async fn status(cluster: &Cluster) -> String {
    let mut text = String::new();
    let mut line = |name: &str, process: Option<&Process>, more: &str| {
        let process = process.filter(|process| process.state() != State::Ended);
        let shown = process.map_or_else(String::new, |process| {
            let mib = process.resident_bytes() >> 20;
            format!("pid {:>7}  {mib:>5} MiB  {:>8.2} s CPU", process.pid(), process.cpu_s())
        });
        let state = match process.map(Process::state) {
            None => "ended",
            Some(State::Stopped) => "stopped",
            Some(_) => more,
        };
        let _ = writeln!(text, "{name:<14} {shown:<39}  {state}");
    };
    for (node, address) in cluster.cassandra.contact_points().iter().enumerate() {
        line(&format!("cassandra-{}", node + 1), cluster.cassandra.process(node), address);
    }
    line("nats", cluster.nats.process(), &cluster.nats.url());
    line("proxy", Some(cluster.proxy()), &cluster.url());
    for instance in cluster.instances().filter(|instance| instance.was_there()) {
        let runs = instance.process().is_some_and(|process| process.state() == State::Runs);
        let ready = if runs && instance.is_ready().await { "ready" } else { "not ready" };
        line(&instance.name(), instance.process(), &format!("{ready}, {}", instance.ops_url()));
    }
    text
}

fn pids(cluster: &Cluster) -> String {
    let mut text = String::new();
    let running = cluster.running().filter_map(|instance| instance.process());
    for process in running.filter(|process| process.state() != State::Ended) {
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
    let node = name.strip_prefix("cassandra-").and_then(|node| node.parse::<usize>().ok());
    let node = node.and_then(|node| node.checked_sub(1)).filter(|it| *it < cluster.cassandra.contact_points().len());
    let instance = cluster.instances().find(|instance| instance.name() == name);
    let folder = match (name, node, instance) {
        ("nats", ..) => cluster.nats.folder(),
        ("proxy", ..) => cluster.folder().join(name),
        (_, Some(node), _) => cluster.cassandra.folder(node).to_owned(),
        (.., Some(_)) => cluster.folder().join(name),
        _ => return Err(format!("there is no {name}: status tells the names")),
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
        None if answer.is_empty() => Err("the cluster ended; tests/cluster down clears up after it".to_owned()),
        None => {
            let _ = std::io::stdout().write_all(answer.as_bytes());
            Ok(())
        }
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("socket")
}
