//! The last step of a conditional write is lost: it was agreed on and stands nowhere, or at one node only. So it lands later, by
//! somebody else's serial read; and a read of the head alone copies the head and not its rows to another node.

use std::{fs, sync::Arc, time::Duration};

use polity_core::{Epoch, IncarnationId, Life, LogKey, Seq};
use polity_log::{Head, NewRow, read};
use polity_store::{Cas, Change, Condition, Consistency, Expect, Row, Store, StoreError, Values, schema, values_of};
use polity_tests::servers::{Cassandra, CassandraOptions};

use super::{
    cql::{log_id, open, tenant},
    nodes::{THREE_NODES, three, writers},
};

/// While a node's folder holds a file of that name, the node loses what others send it to commit, or what it would commit itself.
const RULES: &str = r#"
RULE commits of others are lost
CLASS org.apache.cassandra.service.paxos.PaxosCommit$RequestHandler
METHOD doVerb
AT ENTRY
BIND file: java.io.File = new java.io.File("@FOLDER@/lose-others")
IF file.exists()
DO RETURN
ENDRULE

RULE own commits are lost
CLASS org.apache.cassandra.service.paxos.PaxosState
METHOD commitDirect
AT ENTRY
BIND file: java.io.File = new java.io.File("@FOLDER@/lose-own")
IF file.exists()
DO RETURN
ENDRULE
"#;
const TIMEOUT: Duration = Duration::from_secs(4);

fn lose(nodes: &Cassandra, of: &[usize], file: &str, begin: bool) {
    for node in of {
        let path = nodes.folder(*node).join(file);
        let done = if begin { fs::write(path, "") } else { fs::remove_file(path) };
        done.expect("a file in the node's folder");
    }
}

struct Log {
    key: LogKey,
    head: Option<Head>,
}

impl Log {
    fn new() -> Self {
        Self { key: LogKey { tenant: tenant(), log: log_id(), life: Life::FIRST }, head: None }
    }

    fn partition(&self) -> Values {
        values_of![self.key.tenant, self.key.log, 0_i64]
    }

    fn next(&self) -> (Seq, Head) {
        let seq = self.head.as_ref().map_or(Seq::new(1), |head| head.seq.next());
        let epoch = self.head.as_ref().map_or(Epoch::FIRST, |head| head.epoch);
        let writer = IncarnationId::new([9; 16]);
        (seq, Head { seq, epoch, first: Seq::new(1), writer, state: "s".into() })
    }

    /// Appends one row, as the engine does.
    async fn append(&mut self, store: &dyn Store) -> Result<Cas, StoreError> {
        let (seq, head) = self.next();
        let row = NewRow { kind: 1, body: format!("text {}", seq.get()).into(), ..NewRow::default() }.at(seq);
        let expect =
            self.head.as_ref().map_or(Expect::Absent, |head| Expect::Guards(head.seq.to_i64(), head.epoch.get()));
        let condition = Condition { row: values_of![schema::HEAD_ROW], expect };
        let changes = vec![Change::Put(row.to_row()), Change::Put(head.to_row())];
        let done = store.cas(&schema::LOG, self.partition(), condition, changes).await;
        if !matches!(done, Ok(Cas::Refused(_))) {
            self.head = Some(head);
        }
        done
    }

    async fn get(&self, store: &dyn Store, key: i64, consistency: Consistency) -> Option<Row> {
        for _ in 0..60 {
            match store.get(&schema::LOG, self.partition(), values_of![key], consistency).await {
                Ok(row) => return row,
                Err(_) => tokio::time::sleep(Duration::from_millis(300)).await,
            }
        }
        panic!("the log can't be read");
    }

    /// Where the head stands, as a plain read of it alone shows.
    async fn head_seq(&self, store: &dyn Store) -> i64 {
        let row = self.get(store, schema::HEAD_ROW, Consistency::Quorum).await;
        row.and_then(|row| row.guards).map_or(0, |(seq, _)| seq)
    }
}

async fn start() -> (Cassandra, Arc<dyn Store>) {
    // No node is told later what it missed.
    let nodes = Cassandra::start(&CassandraOptions { rules: RULES, hints: false, ..three() }).await;
    let store = open(nodes.contact_points(), 3, TIMEOUT).await;
    (nodes, store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_was_agreed_on_and_stands_nowhere_lands_later() {
    let _alone = THREE_NODES.lock().await;
    let (nodes, store) = start().await;
    let mut log = Log::new();
    assert_eq!(log.append(&*store).await.expect("an append"), Cas::Applied);
    for file in ["lose-others", "lose-own"] {
        lose(&nodes, &[0, 1, 2], file, true);
    }
    let unheard = log.append(&*store).await;
    assert!(matches!(unheard, Err(StoreError::Unknown(_))), "{unheard:?}");
    assert_eq!(log.head_seq(&*store).await, 1, "it stands nowhere yet");
    for file in ["lose-others", "lose-own"] {
        lose(&nodes, &[0, 1, 2], file, false);
    }
    assert_eq!(log.head_seq(&*store).await, 1, "a plain read doesn't finish it");
    let head = log.get(&*store, schema::HEAD_ROW, Consistency::Serial).await;
    assert_eq!(head.and_then(|row| row.guards).map(|(seq, _)| seq), Some(2), "a serial read does");
    assert!(log.get(&*store, 2, Consistency::Quorum).await.is_some());

    // The engine settles such writes by itself, however many processes write the log.
    let writers = writers(&nodes).await;
    let rounds = async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            lose(&nodes, &[0, 1, 2], "lose-others", true);
            tokio::time::sleep(Duration::from_secs(3)).await;
            lose(&nodes, &[0, 1, 2], "lose-others", false);
        }
    };
    writers.write_while("lost", rounds).await;
    // Each client was answered, though mostly after the loss.
    assert!(writers.acknowledged() >= 8, "only {} texts", writers.acknowledged());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_read_repair_copied_without_its_rows_misleads_nobody() {
    let _alone = THREE_NODES.lock().await;
    let (mut nodes, store) = start().await;
    let mut log = Log::new();
    assert_eq!(log.append(&*store).await.expect("an append"), Cas::Applied);
    // Only the first node gets it: if another one coordinates, two have it, and the next append tries again.
    lose(&nodes, &[1, 2], "lose-others", true);
    let mut tries = 0;
    while log.append(&*store).await.is_ok() {
        tries += 1;
        assert!(tries < 200, "the first node never coordinates");
    }
    lose(&nodes, &[1, 2], "lose-others", false);
    let newest = log.head.as_ref().expect("a head").seq;
    // A plain read of the head alone, until the first node was among those asked: another one has it from then on.
    let mut reads = 0;
    while log.head_seq(&*store).await < newest.to_i64() {
        reads += 1;
        assert!(reads < 500, "the first node is never asked");
    }
    nodes.kill(0);
    // The two that are left: one has the head by repair, none has the row.
    assert_eq!(log.head_seq(&*store).await, newest.to_i64(), "the head was copied");
    assert!(log.get(&*store, newest.to_i64(), Consistency::Quorum).await.is_none(), "and its row was not");
    let rows = loop {
        match read::after(&*store, log.key, Seq::ZERO, 1000, Consistency::Quorum).await {
            Ok(rows) => break rows,
            Err(_) => tokio::time::sleep(Duration::from_millis(300)).await,
        }
    };
    let seqs: Vec<Seq> = rows.iter().map(|row| row.seq).collect();
    assert_eq!(seqs.last(), Some(&newest), "a reader goes by rows, and asks serially where one is missing");
    assert!(seqs.iter().zip(1..).all(|(seq, n)| *seq == Seq::new(n)), "{seqs:?}");
}
