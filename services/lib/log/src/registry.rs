//! Who has which logs open, so that those of a dead process are found, fenced and projected, busy or idle.
//!
//! An activation is: read the head, **then** insert the log into one's slot if that is open, then fence or append with the
//! epoch read. Every load is one. Nothing is deleted from a slot. Each shortcut loses a row for ever (see `ARCHITECTURE.md`).

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use bytes::Bytes;
use polity_core::{IncarnationId, Life, LogId, LogKey, TenantId};
use polity_store::{
    Bounds, Cas, Change, Condition, Consistency, Expect, Row, Store, StoreError, Value, Values, schema, values_of,
};

use crate::LogError;

/// All processes that share a store.
const CLUSTER: &str = "polity";
/// Logs in one slot before the next one is opened.
const SLOT_LOGS: u64 = 4096;
const OPEN: i64 = 0;
const CLOSED: i64 = 1;
const DRAINED: i64 = 2;
/// The entry that says whether a slot is open.
const SENTINEL: &str = "";

/// This process in the registry.
pub struct Registry {
    store: Arc<dyn Store>,
    incarnation: IncarnationId,
    slot: AtomicI64,
    inserted: AtomicU64,
    rolling: tokio::sync::Mutex<()>,
}

/// A log that a dead process had open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// What kind of log it is: the name under which its `Logs` were made.
    pub usage: String,
    /// The log.
    pub key: LogKey,
}

/// A dead process, closed by this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dead {
    incarnation: IncarnationId,
    slots: i64,
}

// === impl Registry ===

impl Registry {
    /// Enters this process, with one open slot.
    ///
    /// # Errors
    /// When the store can't be written.
    pub async fn join(
        store: Arc<dyn Store>,
        incarnation: IncarnationId,
        kind: &str,
        node: &str,
    ) -> Result<Arc<Self>, LogError> {
        let registry = Self {
            store,
            incarnation,
            slot: AtomicI64::new(1),
            inserted: AtomicU64::new(0),
            rolling: tokio::sync::Mutex::new(()),
        };
        // Its number is raised before a slot is made: whoever closes this process finds every slot.
        let row = member(incarnation).guarded(OPEN, 1).with_columns(vec![
            Some(kind.into()),
            Some(node.into()),
            Some(Value::Int(1)),
        ]);
        registry.cas(&schema::MEMBERS, values_of![CLUSTER], condition(row.key.clone(), Expect::Absent), row).await?;
        registry.make_slot(1).await?;
        Ok(Arc::new(registry))
    }

    /// Which run of which process this is.
    #[must_use]
    pub fn incarnation(&self) -> IncarnationId {
        self.incarnation
    }

    /// Notes that this process opens a log. Call it after reading the head and before writing under its epoch.
    ///
    /// # Errors
    /// [`LogError::Closed`] when this process was closed: it may write nothing any more.
    pub async fn activate(&self, usage: &str, key: LogKey) -> Result<(), LogError> {
        if self.inserted.fetch_add(1, Ordering::Relaxed) >= SLOT_LOGS {
            self.roll_over().await?;
        }
        let slot = self.slot.load(Ordering::Acquire);
        let row = Row::new(values_of![format!("{usage}/{}", key.log)], Bytes::new()).with_columns(vec![
            Some(Value::from(key.tenant)),
            Some(Value::from(key.log)),
            Some(Value::Int(key.life.get().into())),
        ]);
        let open = condition(values_of![SENTINEL], Expect::Guards(1, 0));
        self.cas(&schema::ACTIVE, self.slot_of(self.incarnation, slot), open, row).await
    }

    /// Opens a further slot, so that none grows without bound.
    async fn roll_over(&self) -> Result<(), LogError> {
        let _one_at_a_time = self.rolling.lock().await;
        if self.inserted.load(Ordering::Relaxed) < SLOT_LOGS {
            return Ok(());
        }
        let slot = self.slot.load(Ordering::Acquire);
        let partition: Values = values_of![CLUSTER];
        let key = member(self.incarnation).key;
        let current = self.store.get(&schema::MEMBERS, partition.clone(), key.clone(), Consistency::Serial).await?;
        let raised = current.ok_or(LogError::Closed)?.guarded(OPEN, slot + 1);
        self.cas(&schema::MEMBERS, partition, condition(key, Expect::Guards(OPEN, slot)), raised).await?;
        self.make_slot(slot + 1).await?;
        self.slot.store(slot + 1, Ordering::Release);
        self.inserted.store(0, Ordering::Relaxed);
        Ok(())
    }

    async fn make_slot(&self, slot: i64) -> Result<(), LogError> {
        let row = Row::new(values_of![SENTINEL], Bytes::new()).guarded(1, 0);
        let absent = condition(row.key.clone(), Expect::Absent);
        self.cas(&schema::ACTIVE, self.slot_of(self.incarnation, slot), absent, row).await
    }

    /// The earlier runs of the process `node` that nobody has finished yet: a node runs once, so they are dead.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn predecessors(&self, node: &str) -> Result<Vec<IncarnationId>, LogError> {
        let mut dead = Vec::new();
        let mut bounds = Bounds::all();
        loop {
            let page =
                self.store.scan(&schema::MEMBERS, values_of![CLUSTER], bounds, 1000, Consistency::Serial).await?;
            for row in &page.rows {
                let same_node = row.columns.get(1).and_then(Option::as_ref).and_then(Value::as_text) == Some(node);
                let finished = row.guards.is_none_or(|(state, _)| state == DRAINED);
                let id = row.key.first().and_then(Value::as_blob).and_then(|id| IncarnationId::from_slice(id).ok());
                dead.extend(id.filter(|id| same_node && !finished && *id != self.incarnation));
            }
            match page.rows.last() {
                Some(last) if page.more => {
                    bounds = Bounds { from: std::ops::Bound::Excluded(last.key.clone()), ..Bounds::all() };
                }
                _ => return Ok(dead),
            }
        }
    }

    /// Closes a dead process: it can open nothing any more, also if it isn't dead after all. What it had open is found then by
    /// [`Registry::left_open`].
    ///
    /// # Errors
    /// When the store can't be written.
    pub async fn close(&self, incarnation: IncarnationId) -> Result<Dead, LogError> {
        let (partition, key) = (values_of![CLUSTER], member(incarnation).key);
        let slots = loop {
            let current = self.store.get(&schema::MEMBERS, partition.clone(), key.clone(), Consistency::Serial).await?;
            let Some(row) = current else { return Ok(Dead { incarnation, slots: 0 }) };
            let (state, slots) = row.guards.unwrap_or((OPEN, 0));
            if state != OPEN {
                break slots;
            }
            let open = condition(key.clone(), Expect::Guards(OPEN, slots));
            match self.cas(&schema::MEMBERS, partition.clone(), open, row.guarded(CLOSED, slots)).await {
                Ok(()) => break slots,
                // It has just opened another slot, or somebody else closes it.
                Err(LogError::Closed) => {}
                Err(error) => return Err(error),
            }
        };
        // Slots are closed before their logs are read: what is inserted later can't be.
        for slot in 1..=slots {
            self.close_slot(incarnation, slot).await?;
        }
        Ok(Dead { incarnation, slots })
    }

    async fn close_slot(&self, incarnation: IncarnationId, slot: i64) -> Result<(), LogError> {
        let closed = Row::new(values_of![SENTINEL], Bytes::new()).guarded(0, 0);
        let partition = self.slot_of(incarnation, slot);
        for expect in [Expect::Guards(1, 0), Expect::Absent, Expect::Guards(0, 0)] {
            let condition = condition(closed.key.clone(), expect);
            match self.cas(&schema::ACTIVE, partition.clone(), condition, closed.clone()).await {
                Err(LogError::Closed) => {}
                other => return other,
            }
        }
        Err(StoreError::Unavailable("a slot could not be closed".to_owned()).into())
    }

    /// Every log that a closed process may have had open.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn left_open(&self, dead: Dead) -> Result<Vec<Left>, LogError> {
        let mut left = Vec::new();
        for slot in 1..=dead.slots {
            let mut bounds = Bounds::all();
            loop {
                let partition = self.slot_of(dead.incarnation, slot);
                let page = self.store.scan(&schema::ACTIVE, partition, bounds, 1000, Consistency::Serial).await?;
                left.extend(page.rows.iter().filter_map(left_of));
                match page.rows.last() {
                    Some(last) if page.more => {
                        bounds = Bounds { from: std::ops::Bound::Excluded(last.key.clone()), ..Bounds::all() };
                    }
                    _ => break,
                }
            }
        }
        Ok(left)
    }

    /// Notes that this process has itself seen every log of a dead one projected.
    ///
    /// # Errors
    /// When the store can't be written.
    pub async fn drained(&self, dead: Dead) -> Result<(), LogError> {
        let (partition, key) = (values_of![CLUSTER], member(dead.incarnation).key);
        let current = self.store.get(&schema::MEMBERS, partition.clone(), key.clone(), Consistency::Serial).await?;
        let Some(row) = current else { return Ok(()) };
        let closed = condition(key, Expect::Guards(CLOSED, dead.slots));
        match self.cas(&schema::MEMBERS, partition, closed, row.guarded(DRAINED, dead.slots)).await {
            // Somebody else has seen it, too.
            Err(LogError::Closed) => Ok(()),
            other => other,
        }
    }

    /// Leaves: everything that this process had open is projected.
    ///
    /// # Errors
    /// When the store can't be written.
    pub async fn leave(&self) -> Result<(), LogError> {
        let dead = self.close(self.incarnation).await?;
        self.drained(dead).await
    }

    fn slot_of(&self, incarnation: IncarnationId, slot: i64) -> Values {
        values_of![Bytes::copy_from_slice(incarnation.as_bytes()), slot]
    }

    /// One conditional write of one row; refused means closed. An unknown outcome is tried again: all of these may be repeated.
    async fn cas(
        &self,
        table: &'static polity_store::Table,
        partition: Values,
        condition: Condition,
        row: Row,
    ) -> Result<(), LogError> {
        for _ in 0..8 {
            let change = vec![Change::Put(row.clone())];
            match self.store.cas(table, partition.clone(), condition.clone(), change).await {
                Ok(Cas::Applied) => return Ok(()),
                // An earlier try landed after all.
                Ok(Cas::Refused(Some(now))) if now.guards == row.guards && now.key == row.key => return Ok(()),
                Ok(Cas::Refused(_)) => return Err(LogError::Closed),
                Err(StoreError::Unknown(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Unavailable("the registry could not be written".to_owned()).into())
    }
}

fn member(incarnation: IncarnationId) -> Row {
    Row::new(values_of![Bytes::copy_from_slice(incarnation.as_bytes())], Bytes::new())
}

fn condition(row: Values, expect: Expect) -> Condition {
    Condition { row, expect }
}

fn left_of(row: &Row) -> Option<Left> {
    let (usage, _) = row.key.first()?.as_text()?.split_once('/')?;
    let column = |at: usize| row.columns.get(at).and_then(Option::as_ref);
    let key = LogKey {
        tenant: TenantId::new(column(0)?.as_int()?.cast_unsigned()),
        log: LogId::from_slice(column(1)?.as_blob()?).ok()?,
        life: Life::new(u16::try_from(column(2)?.as_int()?).ok()?).ok()?,
    };
    Some(Left { usage: usage.to_owned(), key })
}
