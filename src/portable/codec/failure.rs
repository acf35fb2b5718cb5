//! Why encoding or decoding stopped, in one word, so that the `Result` of each number fits in a register.

use super::CodecError;
use std::fmt;

/// The error type that serde sees.
pub(super) struct Failure(Box<Cause>);

pub(super) enum Cause {
    /// The sink takes no more.
    Full,
    /// The bytes end before the value does.
    TooShort,
    Message(String),
}

impl From<Cause> for Failure {
    #[cold]
    fn from(cause: Cause) -> Self {
        Failure(Box::new(cause))
    }
}

impl Failure {
    #[cold]
    pub(super) fn message(message: impl Into<String>) -> Self {
        Failure::from(Cause::Message(message.into()))
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            // What has been counted was another value: one that changes while it is encoded, by another thread or by itself.
            Cause::Full => f.write_str("the value was not the same each time it was looked at"),
            Cause::TooShort => f.write_str("the bytes end before the value does"),
            Cause::Message(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Failure {}

impl serde::ser::Error for Failure {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        Failure::message(message.to_string())
    }
}

impl serde::de::Error for Failure {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        Failure::message(message.to_string())
    }
}

impl From<Failure> for CodecError {
    #[cold]
    fn from(failure: Failure) -> Self {
        CodecError(failure.to_string())
    }
}
