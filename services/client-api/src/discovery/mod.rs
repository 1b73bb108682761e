//! What this server is and can.

mod capabilities;
mod versions;
mod well_known;

use crate::routes::Routes;

/// Adds this chapter's endpoints.
pub(crate) fn routes(routes: Routes) -> Routes {
    routes.add(versions::versions).add(well_known::client).add(capabilities::capabilities)
}
