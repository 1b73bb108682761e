//! Rooms: making them, membership, sending, state, history.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#rooms-1>

mod create;
mod ephemeral;
mod history;
mod member;
mod reader;
mod send;
mod state;

use crate::routes::Routes;

pub(crate) use reader::Reader;

/// Adds this chapter's endpoints.
pub(crate) fn routes(routes: Routes) -> Routes {
    let routes = member::routes(create::routes(routes));
    ephemeral::routes(history::routes(state::routes(send::routes(routes))))
}
