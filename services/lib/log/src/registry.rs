//! Who has which logs open, so that those of a dead process are found, fenced and projected, busy or idle.
//!
//! An activation is: read the head, **then** insert the log into one's slot if that is open, then fence or append with the
//! epoch read. Every load is one. Nothing is deleted from a slot. Each shortcut loses a row for ever (`tests/ordered.rs` plays them).

use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use polity_core::{
    IncarnationId, Life, LogId, LogKey, TenantId,
    mutation::{Mutation, planted},
    tasks,
};
use polity_store::{
    Bounds, Cas, Change, Condition, Consistency, Expect, Row, Store, StoreError, Value, Values, schema, values_of,
};

use crate::{
    LogError,
    members::{self, CLUSTER, Listed, Member, MemberState},
    pause::pause,
    recover::Holds,
};

/// See [`Registry::join_with`].
const SLOT_LOGS: u64 = if cfg!(test) { 3 } else { 4096 };
/// Logs that are carried at once.
const CARRIED: usize = 32;
const OPEN: i64 = MemberState::Open.guard();
const CLOSED: i64 = MemberState::Closed.guard();
const DRAINED: i64 = MemberState::Drained.guard();
/// The entry that says whether a slot is open.
const SENTINEL: &str = "";

/// This process in the registry.
pub struct Registry {
    pub(crate) store: Arc<dyn Store>,
    incarnation: IncarnationId,
    /// Logs that a slot takes beside those that were carried into it, before the next one is opened.
    slot_logs: u64,
    slot: Mutex<Slot>,
    holders: Mutex<Vec<Weak<dyn Holds>>>,
}

/// The slot that logs are entered into.
struct Slot {
    number: i64,
    inserted: u64,
    /// How many entries it may get before the next one is opened: more than twice what is carried, so that carrying costs little.
    capacity: u64,
    /// The next one is being opened, or the last one isn't dropped yet.
    rolling: bool,
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
    /// The slots that may have logs.
    slots: (i64, i64),
}

/// What stands in a process's slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entered {
    /// The logs.
    pub logs: Vec<(TenantId, LogId)>,
    /// Whether it has had no others open since it began. Else those may be missing that it wrote to over a minute ago and hasn't since.
    pub whole: bool,
}

// === impl Registry ===

impl Registry {
    /// Enters this process, with one open slot.
    ///
    /// # Errors
    /// When the store can't be written.
    pub async fn join(store: Arc<dyn Store>, this: &Member) -> Result<Arc<Self>, LogError> {
        Self::join_with(store, this, SLOT_LOGS).await
    }

    /// The same with slots of which each takes so many logs, beside those that are carried into it, before the next one is opened.
    ///
    /// # Errors
    /// When the store can't be written.
    pub async fn join_with(store: Arc<dyn Store>, this: &Member, slot_logs: u64) -> Result<Arc<Self>, LogError> {
        let incarnation = this.incarnation;
        let slot = Slot { number: 1, inserted: 0, capacity: slot_logs, rolling: false };
        let registry = Self { store, incarnation, slot_logs, slot: Mutex::new(slot), holders: Mutex::default() };
        // Its number is raised before a slot is made: whoever closes this process finds every slot.
        let row = this.to_row(1);
        registry.cas(&schema::MEMBERS, values_of![CLUSTER], condition(row.key.clone(), Expect::Absent), row).await?;
        registry.make_slot(1).await?;
        Ok(Arc::new(registry))
    }

    /// Which run of which process this is.
    #[must_use]
    pub fn incarnation(&self) -> IncarnationId {
        self.incarnation
    }

    /// Whom to ask which logs are in use.
    pub(crate) fn hold(&self, holder: &Arc<dyn Holds>) {
        let mut holders = self.holders.lock();
        holders.retain(|holder| holder.strong_count() > 0);
        holders.push(Arc::downgrade(holder));
    }

    fn holders(&self) -> Vec<Arc<dyn Holds>> {
        self.holders.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// Notes that this process opens a log. Call it after reading the head and before writing under its epoch; the log must be among
    /// those that its [`Holds`] tells from before the call.
    ///
    /// # Errors
    /// [`LogError::Closed`] when this process was closed: it may write nothing any more.
    pub(crate) async fn activate(self: &Arc<Self>, usage: &str, key: LogKey) -> Result<(), LogError> {
        loop {
            let (number, roll) = {
                let mut slot = self.slot.lock();
                slot.inserted += 1;
                let roll = slot.inserted > slot.capacity && !slot.rolling;
                slot.rolling |= roll;
                (slot.number, roll)
            };
            if roll {
                tasks::spawn(Arc::clone(self).roll_over());
            }
            match self.insert(number, usage, key).await {
                // Not closed but dropped: there is another one now.
                Err(LogError::Closed) if self.slot.lock().number != number => {}
                outcome => return outcome,
            }
        }
    }

    /// Enters a log into a slot, if that is open.
    async fn insert(&self, slot: i64, usage: &str, key: LogKey) -> Result<(), LogError> {
        let row = Row::new(values_of![format!("{usage}/{}", key.log)], Bytes::new()).with_columns(vec![
            Some(Value::from(key.tenant)),
            Some(Value::from(key.log)),
            Some(Value::Int(key.life.get().into())),
        ]);
        let open = condition(values_of![SENTINEL], Expect::Guards(1, 0));
        self.cas(&schema::ACTIVE, self.slot_of(self.incarnation, slot), open, row).await
    }

    /// Opens another slot, carries what is in use over, and drops the old one, so that neither a slot nor their number grows with
    /// the age of the process. Each step is known to have happened before the next one begins.
    async fn roll_over(self: Arc<Self>) {
        let old = self.slot.lock().number;
        let rolled = async {
            self.again(|| self.open_slot(old)).await?;
            // From here on logs are entered into the new slot; what is in use now may stand in the old one only.
            *self.slot.lock() = Slot { number: old + 1, inserted: 0, capacity: u64::MAX, rolling: true };
            let mut carried = 0;
            for holder in self.holders() {
                let held = holder.held();
                carried += held.len() as u64;
                let carry = |key| {
                    let (registry, holder) = (&self, &holder);
                    async move { registry.again(|| registry.insert(old + 1, holder.usage(), key)).await }
                };
                stream::iter(held).map(carry).buffer_unordered(CARRIED).try_collect::<Vec<()>>().await?;
            }
            self.again(|| async {
                let partition = self.slot_of(self.incarnation, old);
                self.store.drop_partition(&schema::ACTIVE, partition).await.map_err(LogError::from)
            })
            .await?;
            let mut slot = self.slot.lock();
            slot.capacity = self.slot_logs + 2 * carried;
            slot.rolling = false;
            Ok::<(), LogError>(())
        };
        if let Err(error) = rolled.await {
            // Closed: whoever did that finds both slots.
            tracing::warn!(%error, "a slot of the registry isn't rolled over");
        }
    }

    /// Repeats what may be repeated until it has happened, or this process was closed.
    async fn again<F: Future<Output = Result<(), LogError>>>(
        &self,
        mut step: impl FnMut() -> F,
    ) -> Result<(), LogError> {
        for attempt in 0.. {
            match step().await {
                Err(error) if !matches!(error, LogError::Closed) => {
                    tracing::warn!(%error, "the registry can't be written yet");
                    pause(self.incarnation, attempt).await;
                }
                outcome => return outcome,
            }
        }
        Ok(())
    }

    /// Raises the number of slots, then makes the slot after `old`. Those before `old` were dropped.
    async fn open_slot(&self, old: i64) -> Result<(), LogError> {
        let (partition, key) = (values_of![CLUSTER], members::key(self.incarnation));
        let current = self.store.get(&schema::MEMBERS, partition.clone(), key.clone(), Consistency::Serial).await?;
        let raised = members::with_first_slot(current.ok_or(LogError::Closed)?.guarded(OPEN, old + 1), old);
        self.cas(&schema::MEMBERS, partition, condition(key, Expect::Guards(OPEN, old)), raised).await?;
        self.make_slot(old + 1).await
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
    pub async fn predecessors(&self, node: &str) -> Result<Vec<Member>, LogError> {
        let earlier = |member: &Member| {
            &*member.node == node && member.state != MemberState::Drained && member.incarnation != self.incarnation
        };
        let listed = members::listed(&*self.store, Consistency::Serial).await?;
        Ok(listed.members.into_iter().filter(earlier).collect())
    }

    /// Every process that is in the registry, also those that ended a while ago.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn members(&self) -> Result<Vec<Member>, LogError> {
        Ok(self.listed().await?.members)
    }

    /// Whether a process may still write. One that isn't in the registry counts as closed.
    ///
    /// # Errors
    /// When the store can't be read.
    pub(crate) async fn state_of(&self, incarnation: IncarnationId) -> Result<MemberState, LogError> {
        Ok(self.member(incarnation).await?.map_or(MemberState::Closed, |member| member.state))
    }

    /// A run of a process, if it is in the registry.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn member(&self, incarnation: IncarnationId) -> Result<Option<Member>, LogError> {
        let key = members::key(incarnation);
        let row = self.store.get(&schema::MEMBERS, values_of![CLUSTER], key, Consistency::Quorum).await?;
        Ok(row.as_ref().and_then(Member::from_row))
    }

    /// The same, with what is known of those that aren't in it any more; as far as it was acknowledged when this was called, without
    /// settling what is under way.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn listed(&self) -> Result<Listed, LogError> {
        members::listed(&*self.store, Consistency::Quorum).await
    }

    /// Closes a dead process: it can open nothing any more, also if it isn't dead after all. What it had open is found then by
    /// [`Registry::left_open`].
    ///
    /// # Errors
    /// When the store can't be written.
    pub async fn close(&self, incarnation: IncarnationId) -> Result<Dead, LogError> {
        let (partition, key) = (values_of![CLUSTER], members::key(incarnation));
        let slots = loop {
            let current = self.store.get(&schema::MEMBERS, partition.clone(), key.clone(), Consistency::Serial).await?;
            let Some(row) = current else { return Ok(Dead { incarnation, slots: (1, 0) }) };
            let (state, last) = row.guards.unwrap_or((OPEN, 0));
            let first = members::first_slot(&row);
            if state != OPEN {
                break (first, last);
            }
            let open = condition(key.clone(), Expect::Guards(OPEN, last));
            match self.cas(&schema::MEMBERS, partition.clone(), open, row.guarded(CLOSED, last)).await {
                Ok(()) => break (first, last),
                // It has just opened another slot, or somebody else closes it.
                Err(LogError::Closed) => {}
                Err(error) => return Err(error),
            }
        };
        // Slots are closed before their logs are read: what is inserted later can't be.
        for slot in (slots.0..=slots.1).filter(|_| !planted(Mutation::SlotsLeftOpen)) {
            self.close_slot(incarnation, slot).await?;
        }
        Ok(Dead { incarnation, slots })
    }

    /// Closes a slot, whether it is open, not made yet, or closed. Its process may make or drop it meanwhile, each once: then it is
    /// found in none of these states on the first way through.
    async fn close_slot(&self, incarnation: IncarnationId, slot: i64) -> Result<(), LogError> {
        const STATES: [Expect; 3] = [Expect::Guards(1, 0), Expect::Absent, Expect::Guards(0, 0)];
        let closed = Row::new(values_of![SENTINEL], Bytes::new()).guarded(0, 0);
        let partition = self.slot_of(incarnation, slot);
        for expect in STATES.into_iter().cycle().take(STATES.len() * 3) {
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
        for slot in dead.slots.0..=dead.slots.1 {
            let (partition, all, most) = (self.slot_of(dead.incarnation, slot), Bounds::all(), usize::MAX);
            let rows =
                polity_store::rows(&*self.store, &schema::ACTIVE, partition, all, most, Consistency::Serial).await?;
            left.extend(rows.iter().filter_map(left_of));
        }
        Ok(left)
    }

    /// The logs that a process may have written to and not told of, at the time of the call: those in its slots, also once it is finished.
    /// `None` if there are more than `most`, or nobody can say which: it isn't there any more, or opens another slot.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn logs_of(&self, incarnation: IncarnationId, most: usize) -> Result<Option<Entered>, LogError> {
        let before = self.slots_of(incarnation).await?;
        let Some((first, last)) = before else { return Ok(None) };
        let mut logs = Vec::new();
        for slot in first..=last {
            let partition = self.slot_of(incarnation, slot);
            let limit = most - logs.len() + 1;
            let page =
                self.store.scan(&schema::ACTIVE, partition, Bounds::all(), limit + 1, Consistency::Quorum).await?;
            logs.extend(page.rows.iter().filter_map(left_of).map(|left| (left.key.tenant, left.key.log)));
            if page.more || logs.len() > most {
                return Ok(None);
            }
        }
        let whole = first == 1;
        Ok((self.slots_of(incarnation).await? == before).then_some(Entered { logs, whole }))
    }

    /// The slots of a process, as long as it is in the registry.
    async fn slots_of(&self, incarnation: IncarnationId) -> Result<Option<(i64, i64)>, LogError> {
        let (partition, key) = (values_of![CLUSTER], members::key(incarnation));
        let row = self.store.get(&schema::MEMBERS, partition, key, Consistency::Quorum).await?;
        Ok(row.and_then(|row| {
            let (state, last) = row.guards?;
            (state != members::GONE).then_some((members::first_slot(&row), last))
        }))
    }

    /// Notes that this process has itself seen every log of a dead one projected.
    ///
    /// # Errors
    /// When the store can't be written.
    pub async fn drained(&self, dead: Dead) -> Result<(), LogError> {
        self.finished(dead, None).await
    }

    async fn finished(&self, dead: Dead, told: Option<u64>) -> Result<(), LogError> {
        let (partition, key) = (values_of![CLUSTER], members::key(dead.incarnation));
        let current = self.store.get(&schema::MEMBERS, partition.clone(), key.clone(), Consistency::Serial).await?;
        let Some(row) = current else { return Ok(()) };
        let closed = condition(key, Expect::Guards(CLOSED, dead.slots.1));
        let row = told.into_iter().fold(row.guarded(DRAINED, dead.slots.1), members::with_told);
        match self.cas(&schema::MEMBERS, partition, closed, row).await {
            // Somebody else has seen it, too.
            Err(LogError::Closed) => Ok(()),
            other => other,
        }
    }

    /// Leaves: this process writes to no log any more. Says whether there is nothing left for a successor: whether every log that it
    /// had open was unloaded, which happens only once all its rows are projected and no write is unknown.
    ///
    /// # Errors
    /// When the store can't be written.
    pub async fn leave(&self) -> Result<bool, LogError> {
        self.leave_after(|| None).await
    }

    /// The same of a process that keeps a journal of its writes: `told` ends it and gives the number of its last entry.
    ///
    /// # Errors
    /// When the store can't be written.
    pub async fn leave_after(&self, told: impl FnOnce() -> Option<u64> + Send) -> Result<bool, LogError> {
        let dead = self.close(self.incarnation).await?;
        // Looked at now, as nothing more can be opened.
        let done = self.holders().iter().all(|holder| holder.owes_nothing());
        if done {
            self.finished(dead, told()).await?;
        }
        Ok(done)
    }

    pub(crate) fn slot_of(&self, incarnation: IncarnationId, slot: i64) -> Values {
        values_of![Bytes::copy_from_slice(incarnation.as_bytes()), slot]
    }

    /// One conditional write of one row; refused means closed. An unknown outcome is tried again: all of these may be repeated.
    pub(crate) async fn cas(
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

pub(crate) fn condition(row: Values, expect: Expect) -> Condition {
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
