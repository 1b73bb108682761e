//! By whom a room without a name is named.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#calculating-the-display-name-for-a-room>

use ruma_common::OwnedUserId;

use super::{SyncError, pass::RoomPass};

/// So many of them at most.
const HEROES: usize = 5;
/// Member events that are looked at for others, when some of those that the head names have left.
const LOOKED_AT: usize = 50;

impl RoomPass<'_> {
    /// Members beside the user; of a room that all of them have left, those who were there.
    pub(crate) async fn heroes(&self) -> Result<Vec<OwnedUserId>, SyncError> {
        let (summary, viewer) = (&self.head.room.summary, &self.request.viewer.user_id);
        if summary.name.is_some() || summary.canonical_alias.is_some() {
            return Ok(Vec::new());
        }
        let mut heroes: Vec<_> = summary.heroes.iter().filter(|user| *user != viewer).take(HEROES).cloned().collect();
        let others = usize::try_from(summary.joined + summary.invited).unwrap_or(usize::MAX).saturating_sub(1);
        if heroes.len() >= others.clamp(1, HEROES) {
            return Ok(heroes);
        }
        let rooms = &self.engine.rooms;
        let mut rows =
            rooms.some_members(self.key, self.head.room.generation, &self.head.room.roots, LOOKED_AT).await?;
        rows.sort_by_key(|row| row.seq);
        let mut gone = Vec::new();
        for change in rows.iter().filter_map(|row| row.meta.membership.as_ref()) {
            let user = &change.user_id;
            match change.membership.as_str() {
                _ if user == viewer || heroes.contains(user) => {}
                "join" | "invite" => heroes.push(user.clone()),
                "leave" | "ban" => gone.push(user.clone()),
                _ => {}
            }
        }
        let mut heroes = if heroes.is_empty() { gone } else { heroes };
        heroes.truncate(HEROES);
        Ok(heroes)
    }
}
