//! What a failure of the driver means for what was written.

use polity_store::StoreError;
use scylla::errors::{ConnectionPoolError, DbError, ExecutionError, RequestAttemptError};

use crate::metric;

/// A read that failed.
pub(crate) fn of_read(operation: &'static str, error: &ExecutionError) -> StoreError {
    counted(operation, StoreError::Unavailable(error.to_string()))
}

/// A write that failed: it counts as not written only where that is sure.
pub(crate) fn of_write(operation: &'static str, error: &ExecutionError) -> StoreError {
    let nothing = nothing_was_written(error);
    let text = error.to_string();
    counted(operation, if nothing { StoreError::Unavailable(text) } else { StoreError::Unknown(text) })
}

fn counted(operation: &'static str, error: StoreError) -> StoreError {
    let kind = if matches!(error, StoreError::Unknown(_)) { "unknown" } else { "unavailable" };
    metrics::counter!(metric::FAILURES, "operation" => operation, "kind" => kind).increment(1);
    error
}

fn nothing_was_written(error: &ExecutionError) -> bool {
    match error {
        // Never left this process.
        ExecutionError::BadQuery(_)
        | ExecutionError::EmptyPlan
        | ExecutionError::PrepareError(_)
        | ExecutionError::ConnectionPoolError(
            ConnectionPoolError::Broken { .. }
            | ConnectionPoolError::Initializing
            | ConnectionPoolError::NodeDisabledByHostFilter,
        ) => true,
        ExecutionError::LastAttemptError(attempt) => match attempt {
            RequestAttemptError::SerializationError(_)
            | RequestAttemptError::CqlRequestSerialization(_)
            | RequestAttemptError::UnableToAllocStreamId => true,
            // The coordinator refused before it began. (Unavailable and overloaded may also come of a conditional write's last
            // step, after it was decided.)
            RequestAttemptError::DbError(error, _) => matches!(
                error,
                DbError::IsBootstrapping
                    | DbError::SyntaxError
                    | DbError::Invalid
                    | DbError::Unauthorized
                    | DbError::Unprepared { .. }
            ),
            _ => false,
        },
        _ => false,
    }
}
