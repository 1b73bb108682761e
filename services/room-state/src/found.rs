//! Founds a room: its id, its alias, and its first rows in one append.
//!
//! A crash leaves no room, or one with all that it begins with, its place in the directory and its alias included; only invitations
//! that don't fit into one append may be missing then.

use std::{collections::BTreeSet, sync::atomic::Ordering};

use js_int::UInt;
use polity_core::{ErrorKind, LogKey, TenantId};
use polity_log::LogError;
use polity_proto::{
    Reason,
    room_state::{CreateRoomRequest, Preset as ProtoPreset},
};
use polity_room_engine::{
    build::{self, EventDraft},
    pdu::Pdu,
};
use polity_store::rooms::{self, Alias, AliasUse};
use ruma_common::{
    MilliSecondsSinceUnixEpoch, OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomAliasId, RoomVersionId, UserId,
};
use ruma_events::TimelineEventType;
use serde_json::{Map, Value, value::RawValue};

use crate::{
    command::{Command, Create, INITIAL_STATE_MAX, INVITE_MAX, Invite, Preset, Requester},
    error::RoomError,
    grpc::{object, requester, user_id},
    profiles::{self, Profile},
    rooms::Service,
};

/// How often a room is begun whose id turns out to be another one's.
const TRIES: usize = 4;

impl Service {
    /// Makes a room.
    pub(crate) async fn found(&self, request: CreateRoomRequest) -> Result<OwnedRoomId, RoomError> {
        // In version 12 the id is a hash of the first event: rooms that a user makes alike at one time, at two processes, have the same one.
        for _ in 0..TRIES {
            if let Some(room_id) = self.try_to_found(request.clone()).await? {
                return Ok(room_id);
            }
        }
        Err(RoomError::internal("there is always another room with the new one's id"))
    }

    /// Makes a room, unless its id is another one's.
    async fn try_to_found(&self, request: CreateRoomRequest) -> Result<Option<OwnedRoomId>, RoomError> {
        let create = self.plan(request).await?;
        let (by, room_id) = (create.requester.clone(), create.create.room_id().to_owned());
        let shown = create.profile.clone();
        let (alias, is_direct) = (create.canonical_alias.clone(), create.is_direct);
        let late = create.late_invitations().to_vec();
        let reserved = match &alias {
            Some(alias) => Some((alias, self.reserve(by.tenant, alias, &room_id, &by.user_id).await?)),
            None => None,
        };
        let mut made = self.make(&room_id, create).await;
        if let Some((alias, reserved)) = reserved {
            let store = &*self.deps.store;
            let settled = match &made {
                Ok(_) => rooms::settle_alias(store, by.tenant, alias, &reserved).await,
                // Nothing was written. After a failure of the store the room may be there, and the alias with it.
                Err(error) if error.is_refusal() => rooms::release_alias(store, by.tenant, alias, &reserved).await,
                Err(_) => Ok(true),
            };
            if let Err(error) = settled {
                // It stays reserved, which counts for as much as the room does. Somebody else who is asked would find it taken.
                tracing::warn!(%error, "a reserved alias was neither settled nor released");
                made = made.map_err(RoomError::begun);
            }
        }
        let key = match made {
            Err(error) if error.is_of_taken_id() => return Ok(None),
            made => made?,
        };
        // The room is there, whatever else can't be done: an error would say that it isn't.
        if let Err(error) = self.look_again(key, &by, Some(&shown)).await {
            tracing::warn!(%error, log = %key, "who made a new room couldn't be looked at again");
        }
        // Each is a call of its own.
        let by = Requester { call: None, ..by };
        for (target, profile) in late {
            let invite = Invite { requester: by.clone(), target, reason: None, profile, is_direct };
            if let Err(error) = self.submit(key, invite.into()).await {
                tracing::warn!(%error, log = %key, "an invitation to a new room was refused");
            }
        }
        Ok(Some(room_id))
    }

    /// Writes the room; its log. Refused, it has written nothing.
    async fn make(&self, room_id: &OwnedRoomId, create: Create) -> Result<LogKey, RoomError> {
        let key = self.deps.names.find_or_make(create.requester.tenant, room_id.as_str()).await?;
        self.submit(key, Command::Create(Box::new(create))).await?;
        Ok(key)
    }

    /// Reserves an alias for a room that is about to be made.
    async fn reserve(
        &self,
        tenant: TenantId,
        alias: &RoomAliasId,
        room_id: &OwnedRoomId,
        by: &UserId,
    ) -> Result<Alias, RoomError> {
        let taken = || RoomError::new(ErrorKind::Conflict, Reason::RoomInUse, "the alias is taken");
        let (store, now_ms) = (&*self.deps.store, self.deps.clock.now_ms());
        let found = rooms::alias(store, tenant, alias).await?;
        if let Some(found) = &found
            && !found.is_free(self.exists(tenant, &found.room_id).await?, now_ms)
        {
            return Err(taken());
        }
        let usage = (AliasUse::Reserved, now_ms);
        rooms::claim_alias(store, tenant, alias, found.as_ref(), (room_id, by), usage).await?.ok_or_else(taken)
    }

    /// The command for a request.
    async fn plan(&self, request: CreateRoomRequest) -> Result<Create, RoomError> {
        let preset = match request.preset() {
            ProtoPreset::PrivateChat => Preset::Private,
            ProtoPreset::PublicChat => Preset::Public,
            ProtoPreset::TrustedPrivateChat => Preset::TrustedPrivate,
            ProtoPreset::Unspecified => return Err(RoomError::bad_json("unknown preset")),
        };
        let requester = requester(request.requester)?;
        let version = version(&request.room_version)?;
        let invite = invitees(&request.invite, &requester.user_id)?;
        if request.initial_state.len() > INITIAL_STATE_MAX {
            let message = format!("more than {INITIAL_STATE_MAX} initial state events");
            return Err(RoomError::invalid_param(message));
        }
        let mut initial_state = Vec::with_capacity(request.initial_state.len());
        for state in request.initial_state {
            initial_state.push((state.event_type, state.state_key, object(&state.content)?));
        }
        let users = invite.iter().chain([&requester.user_id]).cloned().collect();
        let mut profiles = profiles::read(&*self.deps.store, requester.tenant, users).await;
        let mut of = |user: &UserId| profiles.remove(user).unwrap_or_else(|| Ok(Profile::default()));
        let profile = of(&requester.user_id)?;
        let with_profile = |user: OwnedUserId| of(&user).map(|profile| (user, profile));
        let invite = invite.into_iter().map(with_profile).collect::<Result<Vec<_>, LogError>>()?;
        let trusted = if preset == Preset::TrustedPrivate { &*invite } else { &[] };
        let create = self.create_event(&requester, &version, object(&request.creation_content)?, trusted)?;
        Ok(Create {
            canonical_alias: self.local_alias(requester.tenant, request.alias)?,
            requester,
            version,
            create,
            preset,
            power_override: object(&request.power_level_content_override)?,
            initial_state,
            name: request.name,
            topic: request.topic,
            profile,
            invite,
            is_direct: request.is_direct,
            listed: request.listed,
        })
    }

    fn local_alias(&self, tenant: TenantId, alias: Option<String>) -> Result<Option<OwnedRoomAliasId>, RoomError> {
        let Some(alias) = alias else { return Ok(None) };
        let tenant = self.tenant(tenant)?;
        let here = |alias: &OwnedRoomAliasId| alias.server_name() == tenant.identity().server_name();
        let alias = RoomAliasId::parse(&alias).ok().filter(here);
        alias.map(Some).ok_or_else(|| RoomError::invalid_param("the alias is no alias of this server"))
    }

    /// The create event, on which the room's id rests in version 12.
    fn create_event(
        &self,
        requester: &Requester,
        version: &RoomVersionId,
        mut content: Map<String, Value>,
        trusted: &[(OwnedUserId, Profile)],
    ) -> Result<Pdu, RoomError> {
        let rules = version.rules().ok_or_else(|| RoomError::internal("a room version without rules"))?;
        let tenant = self.tenant(requester.tenant)?;
        content.insert("room_version".to_owned(), Value::from(version.as_str()));
        content.remove("creator");
        if !rules.authorization.use_room_create_sender {
            content.insert("creator".to_owned(), Value::from(requester.user_id.as_str()));
        }
        if rules.authorization.explicitly_privilege_room_creators && !trusted.is_empty() {
            let creators = content.entry("additional_creators").or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(creators) = creators {
                let more = trusted.iter().map(|(user, _)| Value::from(user.as_str()));
                let more: Vec<_> = more.filter(|user| !creators.contains(user)).collect();
                creators.extend(more);
            }
        }
        let room_id = if rules.authorization.room_create_event_id_as_room_id {
            None
        } else {
            let id = format!("!{}:{}", self.deps.random.alphanumeric(18), tenant.identity().server_name());
            Some(OwnedRoomId::try_from(id).map_err(|error| RoomError::internal(error.to_string()))?)
        };
        let raw = RawValue::from_string(Value::Object(content).to_string());
        let draft = EventDraft {
            event_type: TimelineEventType::RoomCreate,
            state_key: Some(String::new()),
            content: raw.map_err(|error| RoomError::internal(error.to_string()))?,
            sender: requester.user_id.clone(),
            redacts: None,
            origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::try_from(self.founding_ms()).unwrap_or(UInt::MAX)),
        };
        let position = build::Position { depth: 1, room_id, ..build::Position::default() };
        Ok(build::build(draft, position, tenant.identity(), &rules)?)
    }

    /// The time, but never the same twice: in version 12 two rooms that a user makes alike at one time would have one id.
    fn founding_ms(&self) -> u64 {
        let now = self.deps.clock.now_ms();
        let before = self
            .founded_ms
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1)))
            .unwrap_or_else(|last| last);
        now.max(before + 1)
    }
}

/// Who is invited, each once: whoever founds a room is in it.
fn invitees(invited: &[String], founder: &UserId) -> Result<Vec<OwnedUserId>, RoomError> {
    if invited.len() > INVITE_MAX {
        return Err(RoomError::invalid_param(format!("more than {INVITE_MAX} invitations")));
    }
    let mut seen = BTreeSet::from([founder.to_owned()]);
    let mut out = Vec::with_capacity(invited.len());
    for invitee in invited {
        let user = user_id(invitee)?;
        if seen.insert(user.clone()) {
            out.push(user);
        }
    }
    Ok(out)
}

fn version(name: &str) -> Result<RoomVersionId, RoomError> {
    match RoomVersionId::try_from(name) {
        Ok(version @ (RoomVersionId::V10 | RoomVersionId::V11 | RoomVersionId::V12)) => Ok(version),
        _ => Err(RoomError::new(
            ErrorKind::Invalid,
            Reason::UnsupportedRoomVersion,
            "rooms of this version can't be made here",
        )),
    }
}
