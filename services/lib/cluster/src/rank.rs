//! Who is asked first about what: rendezvous hashing, so that a process that comes or goes moves its own share and nothing else.

use std::sync::Arc;

use polity_core::IncarnationId;

use crate::Member;

/// Puts the members into the order in which they are asked about `key`.
pub(crate) fn rank(key: &str, members: &mut [Arc<Member>]) {
    let key = hash(key);
    members.sort_unstable_by_key(|member| std::cmp::Reverse(weigh(key, member.incarnation)));
}

fn hash(key: &str) -> u64 {
    let mut bytes = [0; 8];
    blake3::Hasher::new().update(key.as_bytes()).finalize_xof().fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// A member's weight for a key. All processes of all versions must come to the same.
fn weigh(key: u64, member: IncarnationId) -> (u64, IncarnationId) {
    let (low, high) = member.as_bytes().split_at(8);
    let half = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    // SplitMix64 over both halves: incarnations are random, keys are hashed.
    (mix(mix(key ^ half(low)) ^ half(high)), member)
}

fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: usize = 10_000;

    fn members(count: u8) -> Vec<Arc<Member>> {
        // Ids that differ in one bit or two are the hardest to tell apart.
        (0..count).map(|n| Arc::new(Member::new(IncarnationId::new([n; 16]), "room-state", "n", "a"))).collect()
    }

    fn first(key: usize, mut members: Vec<Arc<Member>>) -> IncarnationId {
        rank(&format!("room:7/!{key}:t"), &mut members);
        members[0].incarnation
    }

    #[test]
    fn everybody_gets_the_same_share() {
        let mut shares = [0_usize; 5];
        for key in 0..KEYS {
            shares[usize::from(first(key, members(5)).as_bytes()[0])] += 1;
        }
        assert!(shares.iter().all(|share| (KEYS / 5 - 200..KEYS / 5 + 200).contains(share)), "{shares:?}");
    }

    #[test]
    fn who_comes_takes_his_share_and_moves_nothing_else() {
        let newcomer = IncarnationId::new([5; 16]);
        let mut moved = 0;
        for key in 0..KEYS {
            let (before, after) = (first(key, members(5)), first(key, members(6)));
            if before != after {
                assert_eq!(after, newcomer, "between those who stayed nothing moves");
                moved += 1;
            }
        }
        assert!((KEYS / 6 - 200..KEYS / 6 + 200).contains(&moved), "{moved}");
    }

    #[test]
    fn the_order_is_the_same_however_members_are_listed() {
        let mut listed = members(7);
        listed.reverse();
        assert_eq!(first(1, listed), first(1, members(7)));
    }
}
