//! What fuzzing gives to those parsers of this crate that nobody else sees.

use bytes::Bytes;
use polity_core::{Life, LogId, LogKey, Position, Random, Seq, Stamp, TenantId};
use polity_log::NewRow;
use polity_store::{Row, values_of};
use ruma_common::{UserId, server_name};
use serde::de::DeserializeOwned;

use crate::{
    account::Account, cross_signing::OnMaster, fallback::Fallback, inbox, keys::DeviceKeys, lists, record,
    record::usage::Usage, shelf::Shelf, token,
};

struct Zeroes;

impl Random for Zeroes {
    fn fill(&self, buf: &mut [u8]) {
        buf.fill(0);
    }
}

/// An access token from whoever asks: it names a user of the server that it was given to, or nobody.
///
/// # Panics
/// When it doesn't.
pub fn access_token(text: &str) {
    let server = server_name!("polity.test");
    let Some((user_id, device_id)) = token::parse(server, text) else { return };
    assert_eq!(user_id.server_name(), server, "{text}");
    let again = token::make(&Zeroes, user_id.localpart(), device_id.as_str());
    assert_eq!(token::parse(server, &again), Some((user_id, device_id)), "{text}");
}

/// Rows of the logs of records, inboxes and device lists.
///
/// # Panics
/// When a user that was read isn't read again as it was written.
pub fn rows(bytes: &[u8]) {
    let body = Bytes::copy_from_slice(bytes);
    let key = LogKey { tenant: TenantId::new(1), log: LogId::new([1; 16]), life: Life::FIRST };
    let row = NewRow { kind: 1, body: body.clone(), ..NewRow::default() }.at(Seq::new(1));
    for write in record::project(key, &row).into_iter().flatten() {
        let entry = Row { stamp: Some(Stamp::new(Position::new(key.life, row.seq), 1)), ..write.row };
        assert!(record::read_entry(&entry).is_ok(), "what was written is an entry");
    }
    let _ = (record::head_user(bytes), inbox::decode(&body));
    if let Some(user_id) = lists::changed_user(bytes) {
        assert_eq!(lists::changed_user(&lists::encode(&user_id)).as_deref(), Some::<&UserId>(&user_id));
    }
}

/// Values of a record's entries.
pub fn entry(bytes: &[u8]) {
    fn read<T: DeserializeOwned>(bytes: &[u8]) {
        let key = values_of!["kind", "scope", "key"];
        let row = Row {
            stamp: Some(Stamp::new(Position::new(Life::FIRST, Seq::new(1)), 1)),
            ..Row::new(key, bytes.to_vec().into())
        };
        if let Ok(entry) = record::read_entry(&row) {
            let _ = entry.decode::<T>();
        }
    }
    read::<Account>(bytes);
    read::<Shelf>(bytes);
    read::<DeviceKeys>(bytes);
    read::<OnMaster>(bytes);
    read::<Fallback>(bytes);
    read::<Usage>(bytes);
}
