//! One vocabulary of errors on the wire: the kind gives the gRPC code, the details carry the rest.

use std::{error::Error as _, time::Duration};

use polity_core::ErrorKind;
use prost::Message;
use tonic::{Code, Status};

use crate::{Reason, error_proto::ErrorDetail};

/// What a tier says of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detail {
    /// What kind it is.
    pub kind: ErrorKind,
    /// What the client API tells apart beyond the kind.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

/// Kinds by their number on the wire, which never changes.
const KINDS: [(u32, ErrorKind, Code); 11] = [
    (1, ErrorKind::Invalid, Code::InvalidArgument),
    (2, ErrorKind::Unauthenticated, Code::Unauthenticated),
    (3, ErrorKind::Forbidden, Code::PermissionDenied),
    (4, ErrorKind::NotFound, Code::NotFound),
    (5, ErrorKind::Conflict, Code::AlreadyExists),
    (6, ErrorKind::TooLarge, Code::OutOfRange),
    (7, ErrorKind::Overloaded, Code::ResourceExhausted),
    (8, ErrorKind::Unavailable, Code::Unavailable),
    (9, ErrorKind::DeadlineExceeded, Code::DeadlineExceeded),
    (10, ErrorKind::Unsupported, Code::Unimplemented),
    (11, ErrorKind::Internal, Code::Internal),
];

/// The status of a failure.
#[must_use]
pub fn to_status(detail: &Detail) -> Status {
    let (number, _, code) = KINDS.into_iter().find(|(_, kind, _)| *kind == detail.kind).unwrap_or((
        11,
        ErrorKind::Internal,
        Code::Internal,
    ));
    let retry_after_ms = detail.retry_after.map_or(0, |wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    let (reason, message) = (detail.reason.into(), detail.message.clone());
    let details = ErrorDetail { kind: number, reason, message, retry_after_ms };
    Status::with_details(code, detail.message.clone(), details.encode_to_vec().into())
}

impl From<&Status> for Detail {
    /// What a status says; one that isn't ours (a broken connection, a deadline) by its code.
    fn from(status: &Status) -> Self {
        if let Ok(detail) = ErrorDetail::decode(status.details())
            && let Some((_, kind, _)) = KINDS.into_iter().find(|(number, _, _)| *number == detail.kind)
        {
            let retry_after = (detail.retry_after_ms > 0).then(|| Duration::from_millis(detail.retry_after_ms));
            return Self { kind, reason: detail.reason(), message: detail.message, retry_after };
        }
        let kind = match status.code() {
            // The connection broke, or the called is ending.
            Code::Cancelled | Code::Unknown if status.source().is_some() => ErrorKind::Unavailable,
            Code::Cancelled => ErrorKind::DeadlineExceeded,
            code => KINDS.into_iter().find(|(_, _, c)| *c == code).map_or(ErrorKind::Internal, |(_, kind, _)| kind),
        };
        Self { kind, reason: Reason::Unspecified, message: status.message().to_owned(), retry_after: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_crosses_the_wire() {
        for (_, kind, code) in KINDS {
            let retry_after = Some(Duration::from_millis(1500));
            let detail = Detail { kind, reason: Reason::BadState, message: "no".into(), retry_after };
            let status = to_status(&detail);
            assert_eq!((status.code(), Detail::from(&status)), (code, detail));
        }
        assert_eq!(Detail::from(&Status::new(Code::Unavailable, "gone")).kind, ErrorKind::Unavailable);
    }
}
