//! Rooms: making them, membership, sending, state, history.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#rooms-1>

mod ban;
mod create;
mod ephemeral;
mod forget;
mod history;
mod invite;
mod join;
mod joined_rooms;
mod kick;
mod knock;
mod leave;
mod members;
mod reader;
mod redact;
mod send;
mod set_state;
mod state;
mod unban;

use crate::routes::Routes;

pub(crate) use reader::Reader;

/// Adds this chapter's endpoints.
pub(crate) fn routes(routes: Routes) -> Routes {
    let routes = routes
        .add(join::by_id)
        .add(join::by_id_or_alias)
        .add(knock::knock)
        .add(leave::leave)
        .add(forget::forget)
        .add(invite::invite)
        .add(kick::kick)
        .add(ban::ban)
        .add(unban::unban)
        .add(joined_rooms::joined_rooms);
    let routes = set_state::routes(redact::routes(send::routes(create::routes(routes))));
    ephemeral::routes(history::routes(members::routes(state::routes(routes))))
}
