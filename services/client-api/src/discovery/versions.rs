//! `GET /_matrix/client/versions`: which versions of the specification are spoken, and which drafts.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientversions>

use ruma_client_api::discovery::get_supported_versions::{Request, Response};

use crate::{ApiError, endpoint::Context};

/// Clients choose features by exact name, so each is listed. Later ones follow when what they demand is built.
const VERSIONS: &[&str] =
    &["r0.6.1", "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10", "v1.11", "v1.12"];

/// Drafts that are built.
const FEATURES: &[&str] = &["org.matrix.msc2285.stable", "org.matrix.msc4222"];

pub(crate) async fn versions(_context: Context, _request: Request) -> Result<Response, ApiError> {
    let mut response = Response::new(VERSIONS.iter().map(|version| (*version).to_owned()).collect());
    response.unstable_features = FEATURES.iter().map(|feature| ((*feature).to_owned(), true)).collect();
    Ok(response)
}
