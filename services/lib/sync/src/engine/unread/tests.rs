//! Tallies count what a look at every row counts.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use polity_core::{Life, LogId, LogKey, Seq, TenantId};
use polity_room_engine::record::{RoomRow, RowMeta};
use ruma_common::{OwnedEventId, OwnedUserId};
use serde_json::json;

use super::{
    counted::{ByThread, Counted, Read},
    counts::unread_of,
    tally::Tally,
    *,
};
use crate::engine::settings::Settings;

const USERS: [&str; 4] = ["@me:b", "@one:b", "@two:b", "@three:b"];

/// A small generator: the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

fn user(n: u64) -> &'static str {
    USERS[usize::try_from(n).unwrap()]
}

/// A random row, and whether it highlights for everybody.
fn row(seq: u64, numbers: &mut Numbers) -> (StoredRow, bool) {
    let (notice, edit, thread) = (numbers.one_in(5), numbers.one_in(5), numbers.one_in(3));
    let mentions: Vec<_> = USERS.iter().filter(|_| numbers.one_in(6)).collect();
    let rings = numbers.one_in(6) && !notice;
    let content = json!({
        "msgtype": if notice { "m.notice" } else { "m.text" },
        "m.mentions": {"user_ids": mentions, "room": rings},
    });
    let sender = user(numbers.below(4));
    let pdu = json!({"type": "m.room.message", "sender": sender, "origin_server_ts": 1, "content": content});
    let meta = RowMeta {
        notifies: rings || (!notice && !edit),
        thread: thread.then(|| OwnedEventId::try_from("$root").unwrap()),
        ..RowMeta::default()
    };
    let body = RoomRow { meta, pdu: Bytes::from(pdu.to_string()) }.encode().unwrap();
    (StoredRow::new(Seq::new(seq), Some("$event"), None, &body).unwrap(), rings)
}

#[test]
fn a_tally_counts_what_its_rows_count_for_every_user() {
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
    for _ in 0..3000 {
        let rows: Vec<_> = (1..=numbers.below(20)).map(|seq| row(seq, &mut numbers)).collect();
        let redacted: BTreeSet<Seq> = rows.iter().filter(|_| numbers.one_in(5)).map(|(row, _)| row.seq).collect();
        let tally = Tally::new(rows.iter().map(|(row, rings)| (row, *rings)), redacted.clone());
        for name in USERS {
            let user_id = OwnedUserId::try_from(name).unwrap();
            let ignored = USERS.iter().filter(|_| numbers.one_in(4)).map(|user| (*user).try_into().unwrap()).collect();
            let settings = Settings { ignored };
            let counting = Counting { user_id: &user_id, settings: &settings };
            let mut by_rows = ByThread::new();
            for (row, rings) in rows.iter().filter(|(row, _)| !redacted.contains(&row.seq)) {
                if let Some(one) = unread_of(row, *rings, counting) {
                    *by_rows.entry(row.meta.thread.clone()).or_default() += one;
                }
            }
            let by_tally: BTreeMap<_, _> = tally
                .of(counting)
                .filter(|(_, unread)| *unread != Unread::default())
                .map(|(thread, unread)| (thread.clone(), unread))
                .collect();
            assert_eq!(by_tally, by_rows, "for {name}, who ignores {:?}", settings.ignored);
        }
    }
}

#[test]
fn kept_counts_are_bounded_in_bytes() {
    let key = |n: u64| LogKey {
        tenant: TenantId::new(1),
        log: LogId::derived(TenantId::new(1), "room", &n.to_string()),
        life: Life::FIRST,
    };
    let user = LogId::new([1; 16]);
    let counted = |threads: usize| {
        let thread = |n| (OwnedEventId::try_from(format!("$root{n}")).ok(), Unread::default());
        let unread = (0..threads).map(thread).collect();
        let settings = Arc::new(Settings::default());
        Arc::new(Counted { read: Read::default(), settings, up_to: Seq::new(9), unread })
    };
    let counts = UnreadCounts::new(10_000, 1 << 20);
    for n in 0..1000 {
        counts.set((key(n), user), counted(300));
    }
    let kept = (0..1000).filter(|n| counts.get(&(key(*n), user)).is_some()).count();
    // All of them would fit without threads.
    assert!((1..=50).contains(&kept), "{kept} of 60 kB each in 3 MB");
    let place = (key(5000), user);
    counts.set(place, counted(1));
    assert!(counts.get(&place).is_some());
    counts.set(place, counted(301));
    assert!(counts.get(&place).is_none(), "neither that one nor an older one");
}
