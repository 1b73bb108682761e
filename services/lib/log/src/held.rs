//! A log in memory: its machine, the head that it knows, and how a group of commands is decided.

use std::collections::HashMap;

use polity_core::{Bucket, Seq};

use crate::{
    Decision, Dedup, LogRow, Machine, NewRow, RepeatedRow,
    append::{GROUP_BYTES, Known},
    logs::Waiting,
};

/// A log that is loaded. All its rows are projected, except those of the group that was appended last.
pub(crate) struct Held<M> {
    pub(crate) machine: M,
    pub(crate) known: Known,
    /// Transactions of rows that `projected` doesn't cover yet, and so perhaps no projection shows.
    pub(crate) recent: HashMap<Dedup, RepeatedRow>,
    /// What `projected` says.
    pub(crate) projected: Seq,
    /// Buckets from this one on may still have rows that were trimmed.
    pub(crate) uncleared: Bucket,
}

/// What the first commands of those that wait came to.
pub(crate) struct Group<R> {
    /// Rows to be appended.
    pub(crate) rows: Vec<LogRow>,
    bytes: usize,
    /// The oldest row that is there afterwards.
    pub(crate) first: Seq,
    /// The answers, in the order of the commands, and whether each waits for the projections.
    pub(crate) answers: Vec<(R, bool)>,
    /// Whether those that come wait, whatever they are: they may rest on a row of the group whose own answer does.
    wait: bool,
    /// Whether a command gave more rows than fit before the bucket's end.
    pub(crate) overfull: bool,
}

// === impl Held ===

impl<M: Machine> Held<M> {
    pub(crate) fn new(machine: M, known: Known, projected: Seq) -> Self {
        // The bucket before the oldest row's: a process may have died before it cleared that one.
        let uncleared = Bucket::new(known.head.first.bucket().get().saturating_sub(1));
        Self { machine, known, recent: HashMap::new(), projected, uncleared }
    }

    /// Keeps the transactions of rows until `projected` covers them.
    pub(crate) fn remember(&mut self, rows: &[LogRow]) {
        for row in rows {
            if let (Some(device), Some(txn)) = (&row.device, &row.txn) {
                let dedup = Dedup { device: device.clone(), txn: txn.clone() };
                self.recent.entry(dedup).or_insert(RepeatedRow { seq: row.seq, event_id: row.event_id.clone() });
            }
        }
    }

    /// Decides as many commands as fit into one append.
    pub(crate) fn decide(
        &mut self,
        waiting: &[Waiting<M>],
        dedups: Vec<Option<Dedup>>,
        old: Vec<Option<RepeatedRow>>,
    ) -> Group<M::Reply> {
        let first = self.known.head.first;
        let mut group = Group { rows: Vec::new(), bytes: 0, first, answers: Vec::new(), wait: false, overfull: false };
        let mut in_group: HashMap<Dedup, RepeatedRow> = HashMap::new();
        let room = self.known.room();
        for ((Waiting { command, .. }, dedup), old) in waiting.iter().zip(dedups).zip(old) {
            if group.rows.len() >= room || group.bytes >= GROUP_BYTES / 2 {
                break;
            }
            let known =
                dedup.as_ref().and_then(|dedup| in_group.get(dedup).or_else(|| self.recent.get(dedup)).cloned());
            if let Some(row) = known.or(old) {
                group.answers.push((self.machine.repeated(command, &row), group.wait));
                continue;
            }
            let next = self.known.seq().plus(1 + group.rows.len() as u64);
            match self.machine.decide(command, next) {
                Decision::Reply(answer) => group.answers.push((answer, group.wait)),
                Decision::Trim { up_to, reply } => {
                    group.first = group.first.max(up_to.min(self.known.seq()).next());
                    group.answers.push((reply, false));
                }
                Decision::Append { rows, reply, after_projection } => {
                    if let (Some(dedup), Some(first)) = (dedup, rows.first()) {
                        in_group.insert(dedup, RepeatedRow { seq: next, event_id: first.event_id.clone() });
                    }
                    group.push(rows, next);
                    group.overfull |= group.rows.len() > room;
                    group.wait |= after_projection;
                    group.answers.push((reply, after_projection));
                }
            }
        }
        group
    }
}

// === impl Group ===

impl<R> Group<R> {
    fn push(&mut self, rows: Vec<NewRow>, first: Seq) {
        self.bytes += rows.iter().map(NewRow::size).sum::<usize>();
        self.rows.extend(rows.into_iter().zip(0..).map(|(row, at)| row.at(first.plus(at))));
    }
}
