//! Columns that are added to tables which have rows, while programs of the version before go on.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures_util::future::join_all;
use polity_core::{Life, Position, Seq, Stamp, SystemClock, SystemRandom};
use polity_store::{
    Bounds, Cas, Change, Column, ColumnType, Condition, Consistency, Durability, Expect, Row, Store, Table, Value,
    Values, Write, WriteKind, schema, values_of,
};
use polity_store_scylla::{CqlConfig, CqlStore, Schema, SchemaStatus};
use polity_tests::{Sandbox, servers::Authority};

use crate::cql::{config, contact_points, log_id};

/// All tables, each with other columns.
fn tables_with(columns: impl Fn(&Table) -> Vec<Column>) -> &'static [&'static Table] {
    let tables = schema::ALL.iter().map(|table| {
        let &&Table { name, number, kind, partition, clustering, direction, guards, doc, .. } = table;
        let columns: &'static [Column] = columns(table).leak();
        &*Box::leak(Box::new(Table { name, number, kind, partition, clustering, direction, guards, columns, doc }))
    });
    tables.collect::<Vec<_>>().leak()
}

/// The program before this one: it lacked each table's last column.
fn yesterday() -> Schema {
    let all_but_one = |table: &Table| table.columns[..table.columns.len().saturating_sub(1)].to_vec();
    Schema { version: Schema::OWN.version - 1, tables: tables_with(all_but_one) }
}

/// The program after this one: each of its tables has one column more.
fn tomorrow() -> Schema {
    let one_more = |table: &Table| [table.columns, &[Column { name: "added", ty: ColumnType::Int }]].concat();
    Schema { version: Schema::OWN.version + 1, tables: tables_with(one_more) }
}

async fn open(config: &CqlConfig) -> Arc<CqlStore> {
    CqlStore::open(config, Arc::new(SystemClock::new()), &SystemRandom).await.expect("a store")
}

/// What a program of some version does with rows of all kinds, in tables as it knows them.
#[derive(Clone)]
struct Program {
    store: Arc<CqlStore>,
    schema: Schema,
    log: Values,
}

// === impl Program ===

impl Program {
    async fn start(config: &CqlConfig, schema: Schema, log: &Values) -> Self {
        let store = open(&CqlConfig { schema, ..config.clone() }).await;
        Self { store, schema, log: log.clone() }
    }

    fn table(&self, of: &Table) -> &'static Table {
        self.schema.tables.iter().find(|table| table.number == of.number).expect("a table")
    }

    /// As many columns as this program knows, of a row that is `n`.
    fn columns(&self, table: &Table, n: i64) -> Vec<Option<Value>> {
        let columns = self.table(table).columns.iter().map(|column| {
            Some(match column.ty {
                ColumnType::Int => Value::Int(n),
                ColumnType::Text => Value::from(n.to_string()),
                ColumnType::Blob => Value::from(n.to_be_bytes().to_vec()),
            })
        });
        columns.collect()
    }

    /// The head at `from`, or no head, becomes the head at `n`, with row `n`.
    async fn append(&self, from: Option<i64>, n: i64) {
        let row = |key: i64| {
            let row = Row::new(values_of![key], Bytes::from(n.to_string()));
            row.with_columns(self.columns(&schema::LOG, n))
        };
        let head = row(schema::HEAD_ROW).guarded(n, 0);
        let expect = from.map_or(Expect::Absent, |from| Expect::Guards(from, 0));
        let condition = Condition { row: values_of![schema::HEAD_ROW], expect };
        let changes = vec![Change::Put(head), Change::Put(row(n))];
        let appended = self.store.cas(self.table(&schema::LOG), self.log.clone(), condition, changes).await;
        assert_eq!(appended.expect("an append"), Cas::Applied, "{n}");
    }

    /// The partition of a user who writes in this program's log alone.
    fn user(&self) -> Values {
        [self.log[0].clone(), Value::from(format!("{:?}", self.log[1]))].into_iter().collect()
    }

    /// A projection, and a plain row.
    async fn put(&self, n: i64) {
        let write = |table: &'static Table, kind| {
            let row = Row::new(values_of![n.to_string()], Bytes::from(n.to_string()));
            let row = row.with_columns(self.columns(table, n));
            Write { table: self.table(table), partition: self.user(), row, kind }
        };
        let stamp = Stamp::new(Position::new(Life::FIRST, Seq::new(n.cast_unsigned())), 0);
        let writes = vec![
            write(&schema::MEMBERSHIPS, WriteKind::Projection(stamp)),
            write(&schema::FILTERS, WriteKind::Plain { ttl_s: 3600 }),
        ];
        self.store.put(writes, Durability::Acknowledged).await.expect("rows are written");
    }

    /// Row `n` of the log, the projection and the plain row, as this program sees them: their columns.
    async fn row(&self, n: i64) -> [Vec<Option<Value>>; 3] {
        let user = self.user();
        let name = values_of![n.to_string()];
        let read = async |table: &Table, partition: Values, key: Values| {
            let row = self.store.get(self.table(table), partition, key, Consistency::Quorum).await;
            let row = row.expect("a read").expect("a row");
            assert_eq!(row.value, n.to_string());
            row.columns
        };
        [
            read(&schema::LOG, self.log.clone(), values_of![n]).await,
            read(&schema::MEMBERSHIPS, user.clone(), name.clone()).await,
            read(&schema::FILTERS, user, name).await,
        ]
    }

    async fn head(&self) -> Row {
        let row = self.store.get(
            self.table(&schema::LOG),
            self.log.clone(),
            values_of![schema::HEAD_ROW],
            Consistency::Serial,
        );
        row.await.expect("a read").expect("a head")
    }

    /// The columns of a row that was written by `writer`, as this program has to see them.
    fn seen(&self, writer: &Self, n: i64) -> [Vec<Option<Value>>; 3] {
        [&schema::LOG, &schema::MEMBERSHIPS, &schema::FILTERS].map(|table| {
            let known = self.table(table).columns.len();
            let mut columns = writer.columns(table, n);
            columns.truncate(known);
            columns
        })
    }
}

fn a_log() -> Values {
    [Value::Int(1), Value::from(log_id()), Value::Int(0)].into_iter().collect()
}

/// The program itself, as an operator uses it.
async fn polity(sandbox: &Sandbox, command: &str) -> String {
    let output = sandbox.run(&["schema", command, "--config", "polity.toml"]).await;
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_are_added_to_tables_with_rows_and_old_and_new_programs_go_on() {
    let keyspace = format!("polity_columns_{}", std::process::id());
    let config = config(contact_points().await, keyspace.clone(), 1);
    let log = a_log();
    let old = Program::start(&config, yesterday(), &log).await;
    old.append(None, 1).await;
    old.put(1).await;
    assert_eq!(old.row(1).await, old.seen(&old, 1));

    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path());
    let own = authority.issue("polity", "polity.internal");
    let shown = |path: &Path| path.display().to_string();
    let sandbox = Sandbox::new(&[
        ("CLUSTER__INTERNAL_CA", &shown(&authority.certificate())),
        ("CLUSTER__INTERNAL_CERT", &shown(&own.certificate)),
        ("CLUSTER__INTERNAL_KEY", &shown(&own.key)),
        ("STORE__KIND", "cql"),
        ("STORE__CQL__CONTACT_POINTS", &config.contact_points.join(",")),
        ("STORE__CQL__LOCAL_DATACENTER", &config.local_datacenter),
        ("STORE__CQL__KEYSPACE", &keyspace),
        ("STORE__CQL__REPLICATION", &format!("{}=1", config.local_datacenter)),
    ]);
    std::fs::write(sandbox.folder().join("polity.toml"), "").expect("a file");
    let (known, before) = (Schema::OWN.version, yesterday().version);
    let said = polity(&sandbox, "status").await;
    assert!(said.contains(&format!("version: {before} in the store, {known} known to this program")), "{said}");
    assert!(said.contains("column attempt of table log") && said.contains("column told of table members"), "{said}");
    let said = polity(&sandbox, "apply").await;
    assert!(said.contains("made: column attempt of table log") && said.contains("missing: nothing"), "{said}");
    let said = polity(&sandbox, "status").await;
    assert!(said.contains(&format!("version: {known} in the store")) && said.contains("missing: nothing"), "{said}");

    // What the old program wrote is there without the column, what it writes now, too; it sees the new one's rows without it. Its
    // statements were prepared for the tables as they were.
    let new = Program::start(&config, Schema::OWN, &log).await;
    assert_eq!(new.row(1).await, new.seen(&old, 1));
    for n in (2..10).step_by(2) {
        new.append(Some(n - 1), n).await;
        new.put(n).await;
        old.append(Some(n), n + 1).await;
        old.put(n + 1).await;
    }
    // One that starts now sees nothing to be made, and leaves the version.
    let late = Program::start(&config, yesterday(), &log).await;
    for (reader, who) in [(&old, "old"), (&late, "late"), (&new, "new")] {
        for n in 1..10 {
            let writer = if n % 2 == 0 { &new } else { &old };
            assert_eq!(reader.row(n).await, reader.seen(writer, n), "row {n}, {who}");
        }
        let page = reader.store.scan(reader.table(&schema::LOG), log.clone(), Bounds::all(), 100, Consistency::Quorum);
        assert_eq!(page.await.expect("a scan").rows.len(), 10, "{who}");
    }
    // A row that both write again and again may keep what the new one wrote there, as `Schema` says.
    assert_eq!(new.head().await.columns, [old.columns(&schema::LOG, 9), vec![Some(Value::Int(8))]].concat());
    let status = SchemaStatus::read(&config).await.expect("a server that answers");
    assert_eq!((status.stored, status.missing), (Some(known), Vec::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn newer_programs_that_start_at_once_disturb_nobody_who_writes() {
    let config = config(contact_points().await, format!("polity_newer_{}", std::process::id()), 1);
    let first = Program::start(&config, Schema::OWN, &a_log()).await;
    let over = AtomicBool::new(false);
    let writer = async |log: Values| {
        let program = Program { log, ..first.clone() };
        program.append(None, 1).await;
        let mut n = 1;
        while !over.load(Ordering::Relaxed) {
            program.put(n).await;
            assert_eq!(program.row(n).await, program.seen(&program, n));
            program.append(Some(n), n + 1).await;
            n += 1;
        }
        (program, n)
    };
    let starting = async {
        let newer = join_all((0..5).map(|_| Program::start(&config, tomorrow(), &first.log))).await;
        over.store(true, Ordering::Relaxed);
        newer
    };
    let (written, newer) = tokio::join!(join_all((0..4).map(|_| writer(a_log()))), starting);
    let status = SchemaStatus::read(&CqlConfig { schema: tomorrow(), ..config.clone() }).await.expect("an answer");
    assert_eq!((status.stored, status.missing), (Some(tomorrow().version), Vec::new()));
    for (program, n) in written {
        assert!(n > 5, "only {n} rounds went on meanwhile");
        let reader = Program { log: program.log.clone(), ..newer[0].clone() };
        for n in 1..n {
            assert_eq!(reader.row(n).await, reader.seen(&program, n));
        }
        reader.append(Some(n), n + 1).await;
        reader.put(n + 1).await;
        assert_eq!(reader.row(n + 1).await, reader.seen(&reader, n + 1));
    }
}
