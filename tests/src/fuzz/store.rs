//! What is read from the store, as rows: a store that gives back whatever the fuzzer makes up, under every name.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt as _;
use polity_core::{IncarnationId, Life, LogId, LogKey, Seq, Stamp, SystemRandom, TenantId};
use polity_log::{Member, Names, Registry, read};
use polity_store::{
    Bounds, Cas, Change, Condition, Consistency, Durability, Page, Row, Store, StoreError, Table, Value, Values, Write,
    life, once, rooms, tenants, users,
};
use ruma_common::{event_id, room_alias_id, room_id, user_id};

use super::text;

/// Operations that a reader makes, at most: a page without an end would go on for ever otherwise.
const OPERATIONS: usize = 50;
const ROWS: usize = 8;
const TENANT: TenantId = TenantId::new(1);

/// See the module.
struct Given {
    rows: Vec<Row>,
    more: bool,
    left: AtomicUsize,
}

impl Given {
    fn spend(&self) -> Result<(), StoreError> {
        let spent = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        spent.map(drop).map_err(|_| StoreError::Unavailable("that was all".to_owned()))
    }
}

#[async_trait]
impl Store for Given {
    fn incarnation(&self) -> IncarnationId {
        IncarnationId::new([1; 16])
    }

    async fn cas(&self, _: &'static Table, _: Values, _: Condition, _: Vec<Change>) -> Result<Cas, StoreError> {
        self.spend().map(|()| Cas::Applied)
    }

    async fn put(&self, _: Vec<Write>, _: Durability) -> Result<(), StoreError> {
        self.spend()
    }

    async fn get(&self, _: &'static Table, _: Values, _: Values, _: Consistency) -> Result<Option<Row>, StoreError> {
        self.spend().map(|()| self.rows.first().cloned())
    }

    async fn scan(
        &self,
        _: &'static Table,
        _: Values,
        _: Bounds,
        limit: usize,
        _: Consistency,
    ) -> Result<Page, StoreError> {
        self.spend()?;
        let rows: Vec<Row> = self.rows.iter().take(limit).cloned().collect();
        Ok(Page { more: self.more && !rows.is_empty(), rows })
    }

    async fn drop_partition(&self, _: &'static Table, _: Values) -> Result<(), StoreError> {
        self.spend()
    }
}

/// Rows, by everybody who reads some.
pub(super) fn rows(bytes: &[u8]) {
    let mut rest = Rest(bytes);
    let more = rest.byte() % 2 == 1;
    let mut rows = Vec::new();
    while rows.len() < ROWS && !rest.0.is_empty() {
        rows.push(rest.row());
    }
    let given = || Arc::new(Given { rows: rows.clone(), more, left: AtomicUsize::new(OPERATIONS) });
    aggregates(&given()).now_or_never().expect("nothing waits");
    logs(&given()).now_or_never().expect("nothing waits");
    registry(given()).now_or_never().expect("nothing waits");
}

async fn aggregates(store: &Given) {
    let (user, room, event) = (user_id!("@a:b"), room_id!("!a:b"), event_id!("$a"));
    let alias = room_alias_id!("#a:b");
    let _ = tenants::all(store).await;
    let _ = once::use_once(store, TENANT, "registration", "nonce", 1).await;
    let _ = life::begin(store, IncarnationId::new([3; 16])).await;
    let _ = polity_accounts::public(store, TENANT, user).await;
    let _ = polity_accounts::owed(store, TENANT, user).await;
    let _ = users::own_receipts(store, TENANT, user, room).await;
    let _ = users::display_receipts(store, log()).await;
    let _ = rooms::memberships(store, TENANT, user).await;
    let _ = rooms::membership(store, TENANT, user, room).await;
    let _ = rooms::forgotten(store, TENANT, user, room).await;
    let _ = rooms::place_of_event(store, TENANT, event).await;
    let _ = rooms::redactions_between(store, log(), Seq::new(1), Seq::new(9)).await;
    let _ = rooms::listed_rooms(store, TENANT).await;
    if let Ok(Some(alias)) = rooms::alias(store, TENANT, alias).await {
        let _ = alias.is_free(false, 1);
    }
}

async fn logs(store: &Given) {
    for from in [Seq::ZERO, Seq::new(1030)] {
        let _ = read::projected_seq(store, log()).await;
        let _ = read::head(store, log(), from, Consistency::Quorum).await;
        let after = read::after(store, log(), from, 5, Consistency::Quorum).await.unwrap_or_default();
        assert!(after.len() <= 5 && after.is_sorted_by(|one, next| one.seq.next() == next.seq), "not dense: {after:?}");
        let back = read::back(store, log(), from, 5).await.unwrap_or_default();
        assert!(back.len() <= 5 && back.is_sorted_by(|one, next| next.seq.next() == one.seq), "not dense: {back:?}");
        assert!(back.iter().all(|row| row.seq <= from), "beyond what was asked: {back:?}");
    }
}

async fn registry(store: Arc<Given>) {
    let names = Names::new(Arc::clone(&store) as _, Arc::new(SystemRandom), "room");
    let _ = names.find(TENANT, "!a:b").await;
    let this = Member::new(IncarnationId::new([2; 16]), "polity", "a", "127.0.0.1:1");
    let Ok(registry) = Registry::join(Arc::clone(&store) as _, &this).await else { return };
    let _ = registry.members().await;
    let _ = registry.listed().await;
    let _ = registry.predecessors("a").await;
    let _ = registry.logs_of(this.incarnation, 10).await;
    if let Ok(dead) = registry.close(this.incarnation).await {
        let _ = registry.left_open(dead).await;
    }
    let _ = polity_log::restore(&registry, &[], Duration::ZERO).await;
}

fn log() -> LogKey {
    LogKey { tenant: TENANT, log: LogId::new([1; 16]), life: Life::FIRST }
}

/// Bytes that are read as rows.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn number(&mut self) -> i64 {
        self.take(8).iter().fold(0_i64, |number, byte| (number << 8) | i64::from(*byte))
    }

    fn value(&mut self) -> Option<Value> {
        match self.byte() % 5 {
            0 => None,
            1 => Some(Value::Int(self.number())),
            2 => Some(Value::Int(i64::from(self.byte()))),
            3 => {
                let length = usize::from(self.byte());
                Some(Value::from(&*text(self.take(length))))
            }
            _ => Some(Value::Blob(self.blob())),
        }
    }

    fn blob(&mut self) -> Bytes {
        let length = usize::from(self.byte());
        Bytes::copy_from_slice(self.take(length))
    }

    fn row(&mut self) -> Row {
        let shape = self.byte();
        let key = (0..shape % 4).filter_map(|_| self.value()).collect();
        let columns = (0..(shape >> 2) % 8).map(|_| self.value()).collect();
        let guards = (shape & 64 != 0).then(|| (self.number(), self.number()));
        let stamp = (shape & 128 != 0).then(|| Stamp::from_bits(self.number().cast_unsigned()));
        Row { key, guards, columns, value: self.blob(), stamp }
    }
}
