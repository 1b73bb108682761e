//! Which processes have stood still for so long that they are to be closed, if they don't answer either.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use polity_core::IncarnationId;
use polity_log::MemberState;

use crate::{Member, beats::BEAT};

/// A process whose beat has stood still for so long isn't there any more, if it doesn't answer.
pub(crate) const STILL: Duration = Duration::from_secs(10);
/// In so long no more than a share of the members is closed.
const WINDOW: Duration = Duration::from_secs(30);
/// That share.
const SHARE: usize = 4;

/// See the module. All times are of the own monotonic clock: nobody else's is believed.
#[derive(Default)]
pub(crate) struct Judge {
    seen: HashMap<IncarnationId, Seen>,
    looked: Option<Duration>,
    /// When members were closed that no successor on their node replaced.
    closings: VecDeque<Duration>,
}

struct Seen {
    beat: Option<u64>,
    still: Duration,
    state: MemberState,
}

impl Judge {
    /// Takes in what the store says at `now`.
    pub(crate) fn look(&mut self, now: Duration, members: &[Member], beats: &HashMap<IncarnationId, u64>) {
        // Whoever was stopped himself has not watched anybody meanwhile.
        let passed = self.looked.map_or(Duration::ZERO, |looked| now.saturating_sub(looked)).min(2 * BEAT);
        self.looked = Some(now);
        while self.closings.front().is_some_and(|at| now.saturating_sub(*at) >= WINDOW) {
            self.closings.pop_front();
        }
        let replaced =
            |gone: &Member| members.iter().any(|member| member.state == MemberState::Open && member.node == gone.node);
        let mut seen = HashMap::with_capacity(members.len());
        for member in members {
            let beat = beats.get(&member.incarnation).copied();
            let before = self.seen.remove(&member.incarnation);
            // Whoever left has beaten until then.
            let stood = |before: &Seen| before.state == MemberState::Open && before.still >= 2 * BEAT;
            if before.as_ref().is_some_and(stood) && member.state != MemberState::Open && !replaced(member) {
                self.closings.push_back(now);
            }
            let still = match before {
                Some(before) if before.beat == beat => before.still + passed,
                _ => Duration::ZERO,
            };
            seen.insert(member.incarnation, Seen { beat, still, state: member.state });
        }
        self.seen = seen;
    }

    /// For how long a process has stood still while it was watched.
    pub(crate) fn still(&self, incarnation: IncarnationId) -> Duration {
        self.seen.get(&incarnation).map_or(Duration::ZERO, |seen| seen.still)
    }

    /// How many processes may be closed now.
    pub(crate) fn allowance(&self) -> usize {
        let open = self.seen.values().filter(|seen| seen.state == MemberState::Open).count();
        let share = ((open + self.closings.len()) / SHARE).max(1);
        share.saturating_sub(self.closings.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(count: u8) -> Vec<Member> {
        (0..count).map(|n| Member::new(IncarnationId::new([n; 16]), "room-state", &n.to_string(), "")).collect()
    }

    fn beats(count: u64, of: &[u8]) -> HashMap<IncarnationId, u64> {
        of.iter().map(|n| (IncarnationId::new([*n; 16]), count)).collect()
    }

    const DEAD: IncarnationId = IncarnationId::new([1; 16]);

    #[test]
    fn stillness_is_counted_while_it_is_watched() {
        let (mut judge, members) = (Judge::default(), members(2));
        let mut now = Duration::from_secs(100);
        for count in 0..6 {
            judge.look(now, &members, &beats(count, &[0]));
            now += BEAT;
        }
        assert_eq!(judge.still(DEAD), 5 * BEAT);
        assert_eq!(judge.still(IncarnationId::new([0; 16])), Duration::ZERO);
        // Stopped for an hour: what happened meanwhile isn't known.
        judge.look(now + Duration::from_secs(3600), &members, &beats(6, &[0]));
        assert_eq!(judge.still(DEAD), 7 * BEAT);
        judge.look(now + Duration::from_secs(3602), &members, &beats(7, &[0, 1]));
        assert_eq!(judge.still(DEAD), Duration::ZERO);
    }

    #[test]
    fn no_more_than_a_quarter_is_closed_within_half_a_minute() {
        let (mut judge, mut members) = (Judge::default(), members(9));
        // The last one beats.
        let look = |judge: &mut Judge, s: u64, members: &[Member]| {
            judge.look(Duration::from_secs(s), members, &beats(s, &[8]));
            judge.allowance()
        };
        for s in (0..20).step_by(2) {
            assert_eq!(look(&mut judge, s, &members), 2);
        }
        members[1].state = MemberState::Closed;
        assert_eq!(look(&mut judge, 20, &members), 1);
        members[2].state = MemberState::Drained;
        assert_eq!(look(&mut judge, 22, &members), 0, "closed and finished between two looks");
        assert_eq!(look(&mut judge, 49, &members), 0);
        assert_eq!(look(&mut judge, 51, &members), 1);
        assert_eq!(look(&mut judge, 53, &members), 1, "of seven");
        // One whose node has come back was surely dead, and whoever left needs nobody to close him.
        members[3].state = MemberState::Closed;
        members.push(Member::new(IncarnationId::new([77; 16]), "room-state", "3", ""));
        members[8].state = MemberState::Drained;
        assert_eq!(look(&mut judge, 55, &members), 1);
    }

    #[test]
    fn of_two_the_other_one_may_be_closed() {
        let mut judge = Judge::default();
        judge.look(Duration::ZERO, &members(2), &HashMap::new());
        assert_eq!(judge.allowance(), 1);
    }
}
