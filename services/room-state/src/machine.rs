//! A room as the log engine drives it.

use std::sync::Arc;

use async_trait::async_trait;
use polity_bus::{Subject, SubjectKind, Wake};
use polity_core::{LogId, LogKey, Seq};
use polity_log::{Decision, Dedup, Head, LogError, LogRow, Machine, RepeatedRow, Sealed};
use polity_room_engine::{
    live::{self, Live, LiveRow},
    record::{RoomHead, RoomRow},
};
use polity_store::{Marks, Write, rooms, schema};
use ruma_common::OwnedEventId;

use crate::{
    command::{Answer, Command, Done, Outcome},
    deps::Deps,
    error::RoomError,
    hot::Hot,
    project,
    purge::Purge,
    stage::Stage,
};

/// State that every decision needs.
const ALWAYS: [&str; 3] = ["m.room.create", "m.room.power_levels", "m.room.join_rules"];

/// A loaded room, or one that is about to be made.
pub(crate) struct Room {
    deps: Arc<Deps>,
    key: Option<LogKey>,
    hot: Option<Hot>,
    /// The room ends: what of it isn't gone yet.
    purge: Option<Purge>,
}

pub(crate) type Reply = Result<Answer, RoomError>;

impl Room {
    pub(crate) fn new(deps: Arc<Deps>) -> Self {
        Self { deps, key: None, hot: None, purge: None }
    }

    fn decide_now(&mut self, command: &Command, next: Seq) -> Result<Decision<Reply>, RoomError> {
        let key = self.key.ok_or_else(|| RoomError::internal("a room without log"))?;
        let gone = || RoomError::internal("the tenant is gone");
        let tenant = self.deps.tenants.tenant(key.tenant).ok_or_else(gone)?;
        let now_ms = self.deps.clock.now_ms();
        match (command, &mut self.hot) {
            (Command::Create(create), None) => {
                let (hot, rows, done) = create.decide(tenant.identity(), now_ms, next)?;
                self.hot = Some(hot);
                Ok(Decision::Append { rows, reply: Ok(Answer::Done(done)), after_projection: true })
            }
            (Command::Create(_), Some(_)) => Err(RoomError::taken_id()),
            (Command::Change(change), None) => Err(change.without_room()),
            (Command::Change(change), Some(hot)) => {
                let mut stage = Stage { hot, identity: tenant.identity(), now_ms };
                Ok(match change.decide(&mut stage, next)? {
                    Outcome::Append(row, done) => {
                        Decision::Append { rows: vec![row], reply: Ok(Answer::Done(done)), after_projection: true }
                    }
                    Outcome::Stands(done) => Decision::Reply(Ok(Answer::Done(done))),
                    Outcome::Ask(conditions) => Decision::Reply(Ok(Answer::Ask(conditions))),
                })
            }
        }
    }
}

#[async_trait]
impl Machine for Room {
    type Command = Command;
    type Reply = Reply;

    async fn load(&mut self, key: LogKey, head: Option<&Head>, _tail: &[LogRow]) -> Result<(), LogError> {
        self.key = Some(key);
        let Some(head) = head else { return Ok(()) };
        let head = RoomHead::decode(&head.state).map_err(|error| LogError::Corrupt(error.to_string()))?;
        let unknown = || LogError::Corrupt(format!("a room of the unknown version {}", head.version));
        let rules = head.version.rules().ok_or_else(unknown)?;
        self.hot = Some(Hot::new(head, rules));
        Ok(())
    }

    async fn prepare(&mut self, group: &[&Command]) -> Result<(), LogError> {
        let (Some(hot), Some(key)) = (&mut self.hot, self.key) else { return Ok(()) };
        hot.begin();
        for event_type in ALWAYS {
            hot.know(&self.deps, key, event_type, "").await?;
        }
        let changes = || group.iter().filter_map(|command| command.change());
        hot.know_profiles(&self.deps, key.tenant, changes().filter_map(|change| change.profile_of())).await;
        for change in changes() {
            for (event_type, state_key) in change.needs() {
                hot.know(&self.deps, key, &event_type, &state_key).await?;
            }
            if let Some(target) = change.redacts() {
                hot.know_target(&self.deps, key, target).await?;
                if let Some((event_type, state_key)) = hot.key_of_target(target) {
                    hot.know(&self.deps, key, &event_type, &state_key).await?;
                }
            }
        }
        Ok(())
    }

    fn dedup<'a>(&self, command: &'a Command) -> Option<&'a Dedup> {
        command.dedup()
    }

    fn repeated(&mut self, _command: &Command, row: &RepeatedRow) -> Reply {
        // Rows about the directory have no event.
        let event_id = row.event_id.as_deref().map(OwnedEventId::try_from).transpose();
        let event_id = event_id.map_err(|_| RoomError::internal("a row with an event that has no id"))?;
        Ok(Answer::Done(Done { event_id, seq: row.seq, anew: false }))
    }

    fn decide(&mut self, command: &Command, next: Seq) -> Decision<Reply> {
        self.decide_now(command, next).unwrap_or_else(|error| Decision::Reply(Err(error)))
    }

    fn failed(error: LogError) -> Reply {
        Err(error.into())
    }

    fn seal(&mut self, _last: Seq) -> Result<Sealed, LogError> {
        let (Some(hot), Some(key)) = (&mut self.hot, self.key) else {
            return Err(LogError::Corrupt("rows for a room that isn't there".to_owned()));
        };
        let nodes = hot.seal(key.tenant, &self.deps.nodes)?;
        let generation = hot.head.generation;
        let head = hot.head.encode().map_err(|error| LogError::Corrupt(error.to_string()))?;
        let before =
            nodes.into_iter().map(|(hash, bytes)| rooms::put_state_node(key, generation, &hash, bytes)).collect();
        Ok(Sealed { head, before })
    }

    async fn purge(&mut self, key: LogKey, head: &Head) -> Result<(), LogError> {
        let room = RoomHead::decode(&head.state).map_err(|error| LogError::Corrupt(error.to_string()))?;
        let purge = Purge::new(Arc::clone(&self.deps), key, room);
        purge.tell_everybody(head.seq.next()).await?;
        self.purge = Some(purge);
        Ok(())
    }

    async fn purge_rows(&mut self, _key: LogKey, rows: &[LogRow]) -> Result<(), LogError> {
        match &mut self.purge {
            Some(purge) => purge.forget(rows).await,
            None => Err(LogError::Corrupt("rows of a room of whose purge nobody knows".to_owned())),
        }
    }

    fn weight(&self) -> usize {
        self.hot.as_ref().map_or(0, Hot::weight)
    }

    fn project(&self, key: LogKey, rows: &[LogRow]) -> Vec<Write> {
        let Some(hot) = &self.hot else { return Vec::new() };
        let mut out = Vec::with_capacity(2 * rows.len());
        for row in rows {
            if let Err(error) = project::project(key, &hot.head.room_id, row, &mut out) {
                tracing::error!(%error, log = %key, seq = %row.seq, "a row can't be projected");
            }
        }
        out
    }

    fn announce(&mut self, key: LogKey, rows: &[LogRow]) {
        let Some(hot) = &self.hot else { return };
        match hot.head.encode() {
            Ok(head) => {
                let live = Live { rows: rows.iter().map(live_row).collect(), head: head.into() };
                self.deps.bus.publish(Subject::new(SubjectKind::Room, key.tenant, key.log), live::encode(&live));
            }
            Err(error) => tracing::error!(%error, log = %key, "a head can't be announced"),
        }
        for row in rows.iter().filter(|row| row.kind == polity_room_engine::record::row_kind::STATE) {
            // Whose membership changed may not watch the room.
            let change = RoomRow::decode(&row.body).ok().and_then(|row| row.meta.membership);
            if let Some(change) = change.filter(|change| change.changed) {
                let user = LogId::derived(key.tenant, "user", change.user_id.as_str());
                let mark = Marks::place(&schema::MEMBERSHIPS, key.tenant, change.user_id.as_str());
                let wake = Wake::Partition(mark).encode();
                self.deps.bus.publish(Subject::new(SubjectKind::User, key.tenant, user), wake);
            }
        }
    }
}

fn live_row(row: &LogRow) -> LiveRow {
    LiveRow {
        seq: row.seq,
        kind: row.kind,
        event_id: row.event_id.clone(),
        sent_by: row.device.clone().zip(row.txn.clone()),
        body: row.body.to_vec(),
    }
}
