//! Waiting until something is so.

use super::table::{Answer, Op};
use super::{Object, Patience, unexpected};
use crate::error::Result;
use std::time::Duration;

/// Something that has happened or not, for all tasks of a cluster and the program; see [`Client::event`](crate::Client::event).
///
/// It is not set at first. A task that waits does not keep its worker from working. A handle can be cloned, and is a value that tasks can be
/// given: `lit(event.clone())`.
#[derive(Clone, Debug)]
pub struct Event(pub(super) Object);

impl Event {
    pub(super) fn object(&self) -> &Object {
        &self.0
    }

    /// Sets it. All who wait go on, and nobody waits any more until it is cleared.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed) if the cluster is; [`NotShared`](crate::ErrorKind::NotShared) where it cannot be had.
    pub fn set(&self) -> Result<()> {
        self.0.ask(Op::Set(true), Patience::None).map(drop)
    }

    /// Takes it back to where it was at first.
    ///
    /// # Errors
    /// As [`set`](Event::set).
    pub fn clear(&self) -> Result<()> {
        self.0.ask(Op::Set(false), Patience::None).map(drop)
    }

    /// Whether it is set.
    ///
    /// # Errors
    /// As [`set`](Event::set).
    pub fn is_set(&self) -> Result<bool> {
        match self.0.ask(Op::IsSet, Patience::None)? {
            Answer::Flag(is_set) => Ok(is_set),
            other => Err(unexpected(&self.0, &other)),
        }
    }

    /// Waits until it is set.
    ///
    /// # Errors
    /// As [`set`](Event::set), also when the cluster is closed meanwhile; [`Cancelled`](crate::ErrorKind::Cancelled) if the task that waits is.
    pub fn wait(&self) -> Result<()> {
        self.0.ask(Op::AwaitSet, Patience::Endless).map(drop)
    }

    /// As [`wait`](Event::wait); false if it is not set after this time.
    ///
    /// # Errors
    /// As [`wait`](Event::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool> {
        Ok(!matches!(self.0.ask(Op::AwaitSet, Patience::of(timeout))?, Answer::Refused(_)))
    }
}
