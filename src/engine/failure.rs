//! Why the call of a task gave no value, and the error that its readers get.

use super::panics;
use crate::error::{Error, ErrorKind};
use crate::graph::node::CallError;
use std::any::Any;
use std::time::Duration;

/// Why a call gave no value.
pub(super) enum CallFailure {
    Returned(CallError),
    /// Make an error of it on the thread that panicked, before another panic there.
    Panicked(Box<dyn Any + Send>),
    TimedOut(Duration),
    NotPortable(String),
}

impl CallFailure {
    /// The failure of a call that was caught, if it failed.
    pub(super) fn of(outcome: std::thread::Result<Option<Box<CallError>>>) -> Option<Self> {
        match outcome {
            Ok(error) => error.map(|error| CallFailure::Returned(*error)),
            Err(payload) => Some(CallFailure::Panicked(payload)),
        }
    }

    /// The error, without the name of the task.
    pub(super) fn into_error(self) -> Error {
        match self {
            CallFailure::Returned(cause) => Error::new(ErrorKind::Failed, cause.to_string()).with_source(cause),
            CallFailure::Panicked(payload) => Error::new(ErrorKind::Panicked, panics::describe(payload)),
            CallFailure::TimedOut(timeout) => {
                Error::new(ErrorKind::TimedOut, format!("it did not end within {timeout:?}"))
            }
            CallFailure::NotPortable(message) => Error::new(
                ErrorKind::NotPortable,
                format!("{message}; make the value survive serde's round trip, or use `delayed_local`"),
            ),
        }
    }
}
