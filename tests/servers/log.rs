//! The log engine on a real store: processes that write one log at once, and clients that ask until they are answered.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use polity_core::{IncarnationId, Life, LogKey, Seq, SystemClock, TenantId, tasks};
use polity_log::{
    Decision, Dedup, Env, Head, LogError, LogRow, Logs, Machine, Member, Moved, NewRow, Registry, RepeatedRow, Sealed,
    read,
};
use polity_store::{Consistency, Store, Write};

use super::cql::log_id;

/// A log of texts.
#[derive(Default)]
struct Texts;

#[async_trait]
impl Machine for Texts {
    type Command = Dedup;
    type Reply = Result<Seq, LogError>;

    async fn load(&mut self, _: LogKey, _: Option<&Head>, _: &[LogRow]) -> Result<(), LogError> {
        Ok(())
    }

    async fn prepare(&mut self, _: &[&Dedup]) -> Result<(), LogError> {
        Ok(())
    }

    fn dedup<'a>(&self, command: &'a Dedup) -> Option<&'a Dedup> {
        Some(command)
    }

    fn repeated(&mut self, _: &Dedup, row: &RepeatedRow) -> Self::Reply {
        Ok(row.seq)
    }

    fn decide(&mut self, command: &Dedup, next: Seq) -> Decision<Self::Reply> {
        let Dedup { device, txn } = command.clone();
        let body = txn.to_string().into();
        let row = NewRow { kind: 1, event_id: None, device: Some(device), txn: Some(txn), body };
        Decision::Append { rows: vec![row], reply: Ok(next), after_projection: false }
    }

    fn failed(error: LogError) -> Self::Reply {
        Err(error)
    }

    fn seal(&mut self, _: Seq) -> Result<Sealed, LogError> {
        Ok(Sealed { head: Bytes::from_static(&[1]), before: Vec::new() })
    }

    fn project(&self, _: LogKey, _: &[LogRow]) -> Vec<Write> {
        Vec::new()
    }

    fn announce(&mut self, _: LogKey, _: &[LogRow]) {}
}

struct Deaf;

impl Moved for Deaf {
    fn moved(&self, _: LogKey, _: Seq) {}
}

/// The logs that several processes write at once.
pub(crate) struct Writers {
    store: Arc<dyn Store>,
    processes: Vec<Logs<Texts>>,
    keys: Vec<LogKey>,
    /// What clients were told, by log and text.
    told: Mutex<BTreeMap<(usize, String), Seq>>,
    unsure: AtomicU64,
    done: AtomicBool,
}

impl Writers {
    /// Two processes, each with a connection of its own, on three logs of a tenant.
    pub(crate) async fn new(stores: [Arc<dyn Store>; 2], tenant: TenantId) -> Arc<Self> {
        let store = Arc::clone(&stores[0]);
        let mut processes = Vec::new();
        for store in stores {
            let this = Member::new(IncarnationId::new(*log_id().as_bytes()), "test", "node", "");
            let registry = Registry::join(Arc::clone(&store), &this).await.expect("a member");
            let env = Env { store, registry, moved: Arc::new(Deaf), clock: Arc::new(SystemClock::new()), shared: true };
            processes.push(Logs::new(env, "texts", 100, Texts::default));
        }
        let key = |_| LogKey { tenant, log: log_id(), life: Life::FIRST };
        let (told, unsure, done) = (Mutex::default(), AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Self { store, processes, keys: (0..3).map(key).collect(), told, unsure, done })
    }

    /// Writes from several clients while `meanwhile` goes on; then all that was promised must be there, once, in one order.
    pub(crate) async fn write_while(self: &Arc<Self>, name: &str, meanwhile: impl Future<Output = ()>) {
        self.done.store(false, Ordering::Relaxed);
        let clients = (0..8).map(|client| {
            let (writers, name) = (Arc::clone(self), format!("{name}/{client}"));
            tasks::spawn(async move { writers.client(client, &name).await })
        });
        let clients: Vec<_> = clients.collect();
        meanwhile.await;
        self.done.store(true, Ordering::Relaxed);
        for client in clients {
            client.await.expect("a client");
        }
        self.check().await;
    }

    /// How many texts were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.told.lock().len()
    }

    /// How many requests were answered without saying what became of them.
    pub(crate) fn unsure(&self) -> u64 {
        self.unsure.load(Ordering::Relaxed)
    }

    async fn client(&self, client: usize, name: &str) {
        let log = client % self.keys.len();
        for number in 0.. {
            if self.done.load(Ordering::Relaxed) {
                return;
            }
            let text = format!("{name}/{number}");
            let seq = self.say(log, &text, client + number).await;
            let before = self.told.lock().insert((log, text.clone()), seq);
            assert!(before.is_none(), "{text} was told twice");
        }
    }

    /// Asks one process after the other until one has an answer.
    async fn say(&self, log: usize, text: &str, start: usize) -> Seq {
        for tries in start..start + 600 {
            let command = Dedup { device: "device".into(), txn: text.into() };
            let process = &self.processes[tries % self.processes.len()];
            match process.submit(self.keys[log], command).await {
                Ok(Ok(seq)) => return seq,
                Ok(Err(_)) | Err(_) => {
                    self.unsure.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        panic!("{text} is never answered");
    }

    async fn check(&self) {
        let told = self.told.lock().clone();
        for (log, key) in self.keys.iter().enumerate() {
            let rows = self.rows(*key).await;
            let texts: Vec<&Bytes> = rows.iter().map(|row| &row.body).collect();
            assert!(rows.iter().zip(1..).all(|(row, n)| row.seq == Seq::new(n)), "log {log} isn't dense");
            assert_eq!(texts.iter().collect::<BTreeSet<_>>().len(), texts.len(), "a transaction gave two rows");
            for ((_, text), seq) in told.iter().filter(|((of, _), _)| *of == log) {
                let there = usize::try_from(seq.get()).ok().and_then(|seq| texts.get(seq.checked_sub(1)?));
                assert_eq!(there.map(|body| &body[..]), Some(text.as_bytes()), "{text} was promised as {seq:?}");
            }
        }
    }

    async fn rows(&self, key: LogKey) -> Vec<LogRow> {
        for _ in 0..60 {
            match read::after(&*self.store, key, Seq::ZERO, 100_000, Consistency::Serial).await {
                Ok(rows) => return rows,
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
        panic!("the log can't be read");
    }
}
