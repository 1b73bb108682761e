//! Tokens come back whole, and nobody else's or damaged ones are taken.

use proptest::prelude::*;

use super::*;

fn key() -> TokenKey {
    TokenKey::derive(b"secret", TenantId::new(1))
}

fn entry(told: Told, life: u16, seq: u64) -> RoomEntry {
    RoomEntry { told, position: Position::new(Life::new(life).unwrap(), Seq::new(seq)) }
}

fn token(rooms: RoomSet) -> SyncToken {
    SyncToken {
        store: IncarnationId::new([7; 16]),
        record: Seq::new(300),
        inbox: Position::new(Life::FIRST, Seq::new(1 << 33)),
        device_lists: Seq::ZERO,
        ephemeral: EphemeralPositions::default()
            .with(EphemeralPosition { instance: 7, counter: 0 })
            .with(EphemeralPosition { instance: u32::MAX, counter: u64::MAX }),
        rooms,
    }
}

fn some_rooms(count: u64) -> BTreeMap<RoomRef, RoomEntry> {
    (0..count).map(|n| (key().room(&format!("!{n}")), entry(Told::Member, 1, 1000 + n))).collect()
}

#[test]
fn tokens_come_back_as_they_were() {
    let mut rooms = some_rooms(3);
    rooms.insert(RoomRef::Full("!whole:example.org".into()), entry(Told::Invited, 1023, 0));
    rooms.insert(key().room("!knocked"), entry(Told::Knocking, 2, Seq::MAX.get()));
    let moved =
        rooms.iter().map(|(room, entry)| (room.clone(), (entry.told == Told::Member).then_some(*entry))).collect();
    for rooms in [RoomSet::empty(), RoomSet::Inline(rooms), RoomSet::Snapshot { id: [9; 16], moved }] {
        let token = token(rooms);
        let text = token.encode(&key(), "@a:b");
        assert_eq!(SyncToken::decode(&text, &key(), "@a:b"), Ok(token));
    }
    let rooms = some_rooms(1000);
    assert_eq!(decode_snapshot(&encode_snapshot(&rooms)), Ok(rooms));
}

#[test]
fn a_room_costs_some_nine_bytes() {
    let one = token(RoomSet::Inline(some_rooms(1))).encode(&key(), "@a:b").len();
    let many = token(RoomSet::Inline(some_rooms(401))).encode(&key(), "@a:b").len();
    assert!((many - one) * 3 / 4 / 400 <= 9, "{}", (many - one) / 400);
}

#[test]
fn a_token_is_good_for_its_owner_tenant_and_content_only() {
    let text = token(RoomSet::Inline(some_rooms(2))).encode(&key(), "@a:b");
    assert!(SyncToken::decode(&text, &key(), "@other:b").is_err());
    assert!(SyncToken::decode(&text, &TokenKey::derive(b"secret", TenantId::new(2)), "@a:b").is_err());
    let bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(SyncToken::decode(&URL_SAFE_NO_PAD.encode(&changed), &key(), "@a:b").is_err(), "byte {at}");
        assert!(SyncToken::decode(&URL_SAFE_NO_PAD.encode(&bytes[..at]), &key(), "@a:b").is_err(), "cut at {at}");
    }
    for text in ["", "s123_4", "ä", "====", "AAAA"] {
        assert!(SyncToken::decode(text, &key(), "@a:b").is_err());
    }
}

#[test]
fn damaged_snapshots_are_errors() {
    let bytes = encode_snapshot(&some_rooms(3));
    for at in 0..bytes.len() {
        assert!(decode_snapshot(&bytes[..at]).is_err(), "cut at {at}");
    }
    // A count without entries must not make us allocate for it.
    assert!(decode_snapshot(&[1, 0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
}

fn any_entry() -> impl Strategy<Value = RoomEntry> {
    let told = prop::sample::select(vec![Told::Member, Told::Invited, Told::Knocking]);
    (told, 0..=Life::MAX.get(), any::<u64>()).prop_map(|(told, life, seq)| entry(told, life, seq))
}

fn any_room() -> impl Strategy<Value = RoomRef> {
    prop_oneof![any::<[u8; 5]>().prop_map(RoomRef::Hash), any::<String>().prop_map(|id| RoomRef::Full(id.into()))]
}

fn any_rooms() -> impl Strategy<Value = RoomSet> {
    let moved = prop::collection::btree_map(any_room(), prop::option::of(any_entry()), 0..20);
    prop_oneof![
        prop::collection::btree_map(any_room(), any_entry(), 0..20).prop_map(RoomSet::Inline),
        (any::<[u8; 16]>(), moved).prop_map(|(id, moved)| RoomSet::Snapshot { id, moved }),
    ]
}

proptest! {
    #[test]
    fn any_token_comes_back_and_no_other(
        store in any::<[u8; 16]>(),
        numbers in any::<[u64; 3]>(),
        life in 0..=Life::MAX.get(),
        places in prop::collection::vec(any::<(u32, u64)>(), 0..12),
        rooms in any_rooms(),
        changed in any::<(prop::sample::Index, u8)>(),
    ) {
        let place = |(instance, counter)| EphemeralPosition { instance, counter };
        let ephemeral = places.into_iter().map(place).fold(EphemeralPositions::default(), |all, place| all.with(place));
        let token = SyncToken {
            store: IncarnationId::new(store),
            record: Seq::new(numbers[0]),
            inbox: Position::new(Life::new(life).unwrap(), Seq::new(numbers[1])),
            device_lists: Seq::new(numbers[2]),
            ephemeral,
            rooms,
        };
        let text = token.encode(&key(), "@a:b");
        prop_assert_eq!(SyncToken::decode(&text, &key(), "@a:b"), Ok(token));
        let (at, bits) = changed;
        let mut bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= bits.max(1);
        prop_assert!(SyncToken::decode(&URL_SAFE_NO_PAD.encode(&bytes), &key(), "@a:b").is_err());
    }
}
