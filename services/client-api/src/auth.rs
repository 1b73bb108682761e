//! Who asks.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#client-authentication>

use http::{header, request::Parts};

use crate::{Api, ApiError, Tenant, call::decode};

/// A user with a device.
pub(crate) type Requester = polity_accounts::Session;

/// The token of a request: in the header, or (as older clients have it) in the query.
fn token(parts: &Parts) -> Option<String> {
    if let Some(header) = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) {
        // The scheme's name has no case (RFC 9110, section 11.1).
        let (scheme, token) = header.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim().to_owned());
    }
    let query = parts.uri.query()?;
    query.split('&').find_map(|pair| pair.strip_prefix("access_token=")).map(|token| decode(token).into_owned())
}

/// The requester of a request that needs a token.
pub(crate) async fn required(api: &Api, tenant: &Tenant, parts: &Parts) -> Result<Requester, ApiError> {
    let token = token(parts).ok_or_else(ApiError::missing_token)?;
    Ok(api.accounts.resolve(tenant.id, &tenant.server_name, &token).await?)
}

/// The requester of a request that may have a token.
pub(crate) async fn optional(api: &Api, tenant: &Tenant, parts: &Parts) -> Result<Option<Requester>, ApiError> {
    if token(parts).is_none() {
        return Ok(None);
    }
    required(api, tenant, parts).await.map(Some)
}
