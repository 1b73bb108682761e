//! `tests/cluster`, as people use it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use http::Method;
use polity_tests::Client;

use super::TURN;

/// The tool, with a cluster in a folder of its own.
struct Tool {
    folder: tempfile::TempDir,
}

impl Tool {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("cluster")
    }

    fn run(&self, order: &str) -> Output {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        let programs = Path::new(env!("CARGO_BIN_EXE_polity-cluster")).parent().expect("a folder");
        let mut tool = Command::new(root.join("tests/cluster"));
        tool.args(order.split_whitespace()).env("POLITY_CLUSTER", self.state()).env("POLITY_BINARIES", programs);
        tool.output().expect("the tool can be run")
    }

    /// What it says to an order that it carries out.
    fn says(&self, order: &str) -> String {
        let output = self.run(order);
        let [said, complained] =
            [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
        assert!(output.status.success(), "{order}: {said}{complained}");
        said.trim_end().to_owned()
    }

    /// What it says to an order that it refuses: one line.
    fn refuses(&self, order: &str) -> String {
        let output = self.run(order);
        let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        assert!(!output.status.success(), "{order} was carried out");
        assert!(!said.is_empty() && !said.contains('\n'), "{order}: not one line: {said}");
        said
    }

    /// What the status says of one process.
    fn status_of(&self, name: &str) -> String {
        let status = self.says("status");
        let line = status.lines().find(|line| line.split_whitespace().next() == Some(name));
        line.unwrap_or_else(|| panic!("no {name} in:\n{status}")).to_owned()
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        self.run("down");
    }
}

/// The processes that have a text in their command line or their environment's folder for temporary files.
fn processes_of(folder: &Path) -> Vec<String> {
    let text = folder.display().to_string();
    let numbers =
        std::fs::read_dir("/proc").expect("/proc").filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let of = |pid: &String| {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let known = [read("cmdline"), read("environ")].concat();
        // This process's shells hold the folder's name until they are waited for.
        String::from_utf8_lossy(&known).contains(&text)
    };
    numbers.filter(|name| name.chars().all(|letter| letter.is_ascii_digit())).filter(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tool_does_what_it_says_and_leaves_nothing() {
    let _turn = TURN.lock().await;
    let tool = Tool::new();
    for order in ["status", "url", "logs", "add client-api", "kill room-state 1", "load send-many"] {
        assert_eq!(tool.refuses(order), "no cluster is up", "{order}");
    }
    tool.says("down");
    for order in
        ["up --bogus 1", "up --client-api", "up --client-api x", "up --cassandra 9", "up --room-state 0", "bogus"]
    {
        // What it begins with comes before the line.
        assert!(!tool.run(order).status.success(), "{order}");
        assert!(!tool.state().exists(), "{order} leaves something");
    }
    let up = tool.says("up --client-api 1 --room-state 1");
    let url = tool.says("url");
    assert!(up.ends_with(&format!("ready: {url}")), "{up}");
    assert!(tool.refuses("up").contains(&url));
    orders_are_carried_out(&tool, &url).await;
    tool.says("down");
    assert!(!tool.state().exists(), "the folder is left");
    assert_eq!(processes_of(&tool.state()), Vec::<String>::new(), "processes are left");
    assert_eq!(tool.refuses("status"), "no cluster is up");
}

async fn orders_are_carried_out(tool: &Tool, url: &str) {
    let mut client = Client::new(url);
    client.register("person", "a long password").await.expect("an account");
    assert_eq!(tool.says("add room-state"), "room-state 2 is there");
    assert_eq!(tool.says("add client-api"), "client-api 2 is there");
    assert_eq!(tool.refuses("add bogus"), "there is no tier bogus");
    tool.says("kill room-state 1");
    assert!(tool.status_of("room-state-1").ends_with("ended"));
    assert_eq!(tool.refuses("kill room-state 1"), "room-state 1 doesn't run");
    assert_eq!(tool.refuses("kill room-state 99"), "there is no room-state 99");
    assert_eq!(tool.refuses("kill room-state"), "which room-state? kill room-state NUMBER");
    assert_eq!(tool.refuses("kill bogus 1"), "there is no tier or server bogus");
    assert!(tool.refuses("start room-state 7").contains("was never there"));
    let room = client.create_room(serde_json::json!({})).await.expect("a room, without the killed one");
    tool.says("stop client-api 1");
    assert!(tool.status_of("client-api-1").ends_with("stopped"));
    assert!(tool.refuses("leave client-api 1").contains("stopped"));
    tool.says("cont client-api 1");
    tool.says("start room-state 1");
    assert!(tool.refuses("start room-state 1").contains("there already"));
    assert!(tool.status_of("room-state-1").contains("ready, "));
    assert_eq!(tool.says("leave client-api 2"), "client-api 2 has left");
    assert!(tool.status_of("client-api-2").ends_with("ended"));
    client.send(&room, "one", "through those that are left").await.expect("a send");
    tool.says("kill nats");
    assert!(tool.status_of("nats").ends_with("ended"));
    tool.says("start nats");
    assert!(tool.says("logs client-api-1").contains("serves"));
    assert!(tool.says("logs").contains("ready: "));
    assert!(tool.refuses("logs bogus").contains("there is no bogus"));
    client.raw(Method::GET, "/_matrix/client/versions", None).await.expect("an answer");
}
