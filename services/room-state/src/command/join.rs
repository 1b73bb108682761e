//! Joins the requester; a restricted room only if its conditions are met.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#restricted-rooms>

use polity_core::{ErrorKind, Seq};
use polity_log::Dedup;
use polity_proto::Reason;
use ruma_common::{OwnedRoomId, OwnedUserId};
use ruma_events::room::{
    join_rules::{AllowRule, JoinRule, RoomJoinRulesEventContent},
    member::MembershipState,
};
use serde_json::Value;

use super::{Change, Done, Outcome, Requester, member_key};
use crate::{error::RoomError, membership::content, profiles::Profile, stage::Stage};

/// Conditions of one room that are looked at.
const CONDITIONS: usize = 32;
/// Members whose power is known, asked first who may let others in.
const VOUCHERS: usize = 16;

/// See the module.
#[derive(Clone)]
pub(crate) struct Join {
    pub(crate) requester: Requester,
    pub(crate) profile: Profile,
    pub(crate) reason: Option<String>,
    /// What was found out about the room's conditions, if it has any.
    pub(crate) findings: Option<Findings>,
}

/// What a restricted room wants to know before it lets somebody in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conditions {
    /// Whether the requester is in one of these rooms.
    pub(crate) rooms: Vec<OwnedRoomId>,
    /// Who may perhaps let others in, the likeliest first.
    pub(crate) vouchers: Vec<OwnedUserId>,
    /// Whether none of them may: any member of this server might do.
    pub(crate) any_member: bool,
}

/// Answers to [`Conditions`], read after the request arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Findings {
    /// What was asked.
    pub(crate) asked: Conditions,
    /// The rooms that the requester is in.
    pub(crate) member_of: Vec<OwnedRoomId>,
    /// The rooms that aren't known here.
    pub(crate) unknown: Vec<OwnedRoomId>,
}

impl Change for Join {
    fn dedup(&self) -> Option<&Dedup> {
        self.requester.call.as_ref()
    }

    fn needs(&self) -> Vec<(String, String)> {
        let vouchers = self.findings.iter().flat_map(|findings| &findings.asked.vouchers);
        vouchers.chain([&self.requester.user_id]).map(|user| member_key(user)).collect()
    }

    fn without_room(&self) -> RoomError {
        RoomError::not_found("there is no such room")
    }

    fn decide(&self, stage: &mut Stage<'_>, next: Seq) -> Result<Outcome, RoomError> {
        let user_id = &self.requester.user_id;
        let membership = stage.membership(user_id);
        if membership == Some(MembershipState::Join)
            && let Some(event) = stage.member_event(user_id)
        {
            return Ok(Outcome::Stands(Done::before(event.event_id())));
        }
        let mut content = content(MembershipState::Join, Some(&self.profile), self.reason.as_deref());
        // Who is invited needs no conditions, and who is banned isn't helped by them.
        let invited_or_banned = matches!(membership, Some(MembershipState::Invite | MembershipState::Ban));
        if !invited_or_banned && let Some(rooms) = allowing_rooms(stage) {
            let Some(findings) = self.findings.as_ref().filter(|findings| findings.cover(&rooms)) else {
                let vouchers = likely_vouchers(stage);
                return Ok(Outcome::Ask(Conditions { rooms, vouchers, any_member: false }));
            };
            findings.check(&rooms)?;
            match findings.asked.vouchers.iter().find(|voucher| may_vouch(stage, voucher)) {
                Some(voucher) => {
                    content.insert("join_authorised_via_users_server".to_owned(), Value::from(voucher.as_str()));
                }
                None if findings.asked.any_member || !stage.anybody_may_invite() => return Err(nobody_vouches()),
                None => return Ok(Outcome::Ask(Conditions { rooms, vouchers: Vec::new(), any_member: true })),
            }
        }
        self.requester.put_member(stage, user_id, content, next)
    }
}

// === impl Findings ===

impl Findings {
    /// Whether all these rooms were looked at: the rule may have changed in the meantime.
    fn cover(&self, rooms: &[OwnedRoomId]) -> bool {
        rooms.iter().all(|room| self.asked.rooms.contains(room))
    }

    fn check(&self, rooms: &[OwnedRoomId]) -> Result<(), RoomError> {
        if rooms.iter().any(|room| self.member_of.contains(room)) {
            return Ok(());
        }
        if !rooms.is_empty() && rooms.iter().all(|room| self.unknown.contains(room)) {
            let reason = Reason::UnableToAuthoriseJoin;
            return Err(RoomError::new(ErrorKind::Invalid, reason, "the room's conditions can't be checked here"));
        }
        Err(RoomError::forbidden("you are in none of the rooms whose members may join this one"))
    }
}

fn nobody_vouches() -> RoomError {
    let reason = Reason::UnableToGrantJoin;
    RoomError::new(ErrorKind::Invalid, reason, "nobody of this server may let others into the room")
}

/// The rooms whose members may join; `None` in a room whose rule has no conditions.
fn allowing_rooms(stage: &Stage<'_>) -> Option<Vec<OwnedRoomId>> {
    let rule = stage.hot.state("m.room.join_rules", "")?;
    let content: RoomJoinRulesEventContent = serde_json::from_str(rule.pdu.content().get()).ok()?;
    let rules = &stage.hot.rules.authorization;
    let restricted = match content.join_rule {
        JoinRule::Restricted(restricted) if rules.restricted_join_rule => restricted,
        JoinRule::KnockRestricted(restricted) if rules.knock_restricted_join_rule => restricted,
        _ => return None,
    };
    let room = |rule| if let AllowRule::RoomMembership(rule) = rule { Some(rule.room_id) } else { None };
    Some(restricted.allow.into_iter().filter_map(room).take(CONDITIONS).collect())
}

/// Members of this server who have power by name, and the first members.
fn likely_vouchers(stage: &Stage<'_>) -> Vec<OwnedUserId> {
    let mut vouchers = stage.may_invite_by_name();
    vouchers.extend(stage.hot.head.summary.heroes.iter().cloned());
    vouchers.retain(|user| user.server_name() == stage.identity.server_name());
    let mut seen = std::collections::BTreeSet::new();
    vouchers.retain(|user| seen.insert(user.clone()));
    vouchers.truncate(VOUCHERS);
    vouchers
}

fn may_vouch(stage: &Stage<'_>, user: &OwnedUserId) -> bool {
    user.server_name() == stage.identity.server_name()
        && stage.membership(user) == Some(MembershipState::Join)
        && stage.levels().is_some_and(|levels| levels.user_can_invite(user))
}
